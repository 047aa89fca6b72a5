//! From tokens to a tree: C's expressions without what changes memory, and gdb's `a[0]@4`, `{type} address` and `::`.

use std::ops::Range;

use super::ast::{Binary, CONDITIONAL, Expr, Node, Path, Step, TypeName, Unary};
use super::error::{Eval, Fault};
use super::lexer::{Kind, Token, tokens};

/// Longest expression in bytes.
const LONGEST: usize = 16 << 10;
/// Deepest nesting of an expression: what evaluates it goes as deep.
pub(super) const DEEPEST: usize = 200;
/// Words that make one expression out of what stands in parentheses behind them.
const BUILT_IN: &[&str] =
    &["offsetof", "__builtin_offsetof", "container_of", "list_entry", "rb_entry", "per_cpu", "per_cpu_ptr"];

/// Tells names of types from others: C cannot be parsed without.
pub(super) trait TypeNames {
    /// Whether the name alone means a type.
    fn is_type(&self, name: &str) -> bool;
    /// Whether a type has the name, even if something else has it too.
    fn may_be_type(&self, name: &str) -> bool;
}

/// The tree of a whole expression.
pub(super) fn expression(text: &str, names: &dyn TypeNames) -> Eval<Node> {
    let mut parser = Parser::new(text, names)?;
    let node = parser.expression()?;
    parser.end()?;
    Ok(node)
}

/// A text that is a type and nothing else.
pub(super) fn type_name(text: &str, names: &dyn TypeNames) -> Eval<TypeName> {
    let mut parser = Parser::new(text, names)?;
    let of = parser.type_name()?;
    parser.end()?;
    Ok(of)
}

pub(super) struct Parser<'t> {
    text: &'t str,
    tokens: Vec<Token<'t>>,
    next: usize,
    depth: usize,
    pub(super) names: &'t dyn TypeNames,
}

impl<'t> Parser<'t> {
    fn new(text: &'t str, names: &'t dyn TypeNames) -> Eval<Self> {
        if text.len() > LONGEST {
            return Err(Fault::wrong(0..0, format!("an expression of more than {LONGEST} bytes")));
        }
        let parser = Self { text, tokens: tokens(text)?, next: 0, depth: 0, names };
        if parser.tokens.is_empty() {
            return Err(Fault::wrong(0..text.len(), "an expression is missing"));
        }
        Ok(parser)
    }

    pub(super) fn peek(&self) -> Option<&Kind<'t>> {
        self.peek_at(0)
    }

    /// The token `ahead` of the next one.
    pub(super) fn peek_at(&self, ahead: usize) -> Option<&Kind<'t>> {
        self.tokens.get(self.next.saturating_add(ahead)).map(|token| &token.kind)
    }

    pub(super) fn is(&self, punctuation: &str) -> bool {
        self.is_at(0, punctuation)
    }

    pub(super) fn is_at(&self, ahead: usize, punctuation: &str) -> bool {
        matches!(self.peek_at(ahead), Some(Kind::Punct(found)) if *found == punctuation)
    }

    /// The word that comes next.
    pub(super) fn word(&self) -> Option<&'t str> {
        self.word_at(0)
    }

    pub(super) fn word_at(&self, ahead: usize) -> Option<&'t str> {
        match self.peek_at(ahead) {
            Some(Kind::Word(word)) => Some(word),
            _ => None,
        }
    }

    pub(super) fn advance(&mut self) {
        self.next = self.next.saturating_add(1);
    }

    /// Takes this punctuation if it comes next.
    pub(super) fn take(&mut self, punctuation: &str) -> bool {
        let found = self.is(punctuation);
        if found {
            self.advance();
        }
        found
    }

    pub(super) fn expect(&mut self, punctuation: &str) -> Eval<()> {
        if self.take(punctuation) {
            return Ok(());
        }
        Err(self.unexpected(&format!("{punctuation} is missing")))
    }

    /// The bytes of the next token, or the end of the text.
    pub(super) fn here(&self) -> Range<usize> {
        match self.tokens.get(self.next) {
            Some(token) => token.at.clone(),
            None => self.text.len()..self.text.len(),
        }
    }

    /// The bytes from `start` to the last token taken.
    pub(super) fn since(&self, start: usize) -> Range<usize> {
        let last = self.next.checked_sub(1).and_then(|last| self.tokens.get(last));
        start..last.map_or(start, |token| token.at.end).max(start)
    }

    /// A fault at the next token.
    pub(super) fn unexpected(&self, what: &str) -> Fault {
        let at = self.here();
        match self.text.get(at.clone()).filter(|found| !found.is_empty()) {
            Some(found) => Fault::wrong(at, format!("{what} before {found}")),
            None => Fault::wrong(at, format!("{what} at the end")),
        }
    }

    fn end(&self) -> Eval<()> {
        match self.peek() {
            None => Ok(()),
            Some(Kind::Punct(found)) if found.ends_with('=') => {
                let fault = Fault::wrong(self.here(), "nothing can be assigned: a dump does not change");
                Err(if *found == "=" { fault.hinting("did you mean '=='?") } else { fault })
            }
            Some(Kind::Punct("++" | "--")) => {
                Err(Fault::wrong(self.here(), "nothing can be changed: a dump is read only"))
            }
            Some(_) => Err(self.unexpected("an operator is missing")),
        }
    }

    /// Does `inner` one level deeper.
    pub(super) fn nested<T>(&mut self, inner: impl FnOnce(&mut Self) -> Eval<T>) -> Eval<T> {
        if self.depth >= DEEPEST {
            return Err(Fault::wrong(self.here(), "nested too deeply"));
        }
        self.depth = self.depth.saturating_add(1);
        let found = inner(self);
        self.depth = self.depth.saturating_sub(1);
        found
    }

    /// A node of what was taken since `start`.
    fn node(&self, kind: Expr, start: usize) -> Eval<Node> {
        let at = self.since(start);
        let depth = kind.deepest_part().saturating_add(1);
        if depth > DEEPEST {
            return Err(Fault::wrong(at, "nested too deeply"));
        }
        Ok(Node { kind: Box::new(kind), at, depth })
    }

    pub(super) fn expression(&mut self) -> Eval<Node> {
        self.nested(|parser| parser.binary(0))
    }

    /// An expression that a comma ends.
    pub(super) fn argument(&mut self) -> Eval<Node> {
        self.nested(|parser| parser.binary(CONDITIONAL))
    }

    /// Operators that bind at least as tightly as `weakest`.
    fn binary(&mut self, weakest: u8) -> Eval<Node> {
        let mut left = self.unary()?;
        loop {
            let start = left.at.start;
            let Some(Kind::Punct(punctuation)) = self.peek() else { return Ok(left) };
            let punctuation = *punctuation;
            if punctuation == "?" && weakest <= CONDITIONAL {
                self.advance();
                let yes = self.expression()?;
                self.expect(":")?;
                let no = self.nested(|parser| parser.binary(CONDITIONAL))?;
                left = self.node(Expr::Conditional(left, yes, no), start)?;
                continue;
            }
            let operator = Binary::ALL.into_iter().find(|operator| operator.text() == punctuation);
            let Some(operator) = operator.filter(|operator| operator.strength() >= weakest) else {
                return Ok(left);
            };
            self.advance();
            let right = self.nested(|parser| parser.binary(operator.strength().saturating_add(1)))?;
            left = self.node(Expr::Binary(operator, left, right), start)?;
        }
    }

    fn unary(&mut self) -> Eval<Node> {
        let start = self.here().start;
        let operator = match self.peek() {
            Some(Kind::Punct("+")) => Unary::Plus,
            Some(Kind::Punct("-")) => Unary::Minus,
            Some(Kind::Punct("!")) => Unary::Not,
            Some(Kind::Punct("~")) => Unary::Complement,
            Some(Kind::Punct("*")) => Unary::Dereference,
            Some(Kind::Punct("&")) => Unary::AddressOf,
            Some(Kind::Punct("++" | "--")) => {
                return Err(Fault::wrong(self.here(), "nothing can be changed: a dump is read only"));
            }
            Some(Kind::Punct("{")) => return self.at_address(start),
            Some(Kind::Punct("(")) if self.starts_type(1) => return self.cast(start),
            Some(Kind::Word("sizeof")) => return self.size_of(start),
            Some(Kind::Word("_Alignof" | "__alignof__" | "alignof")) => return self.align_of(start),
            _ => return self.postfix(),
        };
        self.advance();
        let operand = self.nested(Self::unary)?;
        self.node(Expr::Unary(operator, operand), start)
    }

    fn cast(&mut self, start: usize) -> Eval<Node> {
        self.advance();
        let of = self.type_name()?;
        self.expect(")")?;
        if self.peek().is_none() || self.is(")") {
            let at = of.at.clone();
            return Err(Fault::wrong(at, "a type is no value").hinting("a cast needs something behind it"));
        }
        let operand = self.nested(Self::unary)?;
        self.node(Expr::Cast(of, operand), start)
    }

    /// gdb's `{type} address`.
    fn at_address(&mut self, start: usize) -> Eval<Node> {
        self.advance();
        let of = self.type_name()?;
        self.expect("}")?;
        let operand = self.nested(Self::unary)?;
        self.node(Expr::At(of, operand), start)
    }

    fn size_of(&mut self, start: usize) -> Eval<Node> {
        self.advance();
        if self.is("(") && self.starts_type(1) {
            self.advance();
            let of = self.type_name()?;
            self.expect(")")?;
            return self.node(Expr::SizeOfType(of), start);
        }
        if self.starts_type(0) {
            let of = self.type_name()?;
            return self.node(Expr::SizeOfType(of), start);
        }
        let operand = self.nested(Self::unary)?;
        self.node(Expr::SizeOf(operand), start)
    }

    fn align_of(&mut self, start: usize) -> Eval<Node> {
        self.advance();
        self.expect("(")?;
        let of = self.type_name()?;
        self.expect(")")?;
        self.node(Expr::AlignOfType(of), start)
    }

    fn postfix(&mut self) -> Eval<Node> {
        let start = self.here().start;
        let mut node = self.primary()?;
        loop {
            let Some(Kind::Punct(punctuation)) = self.peek() else { return Ok(node) };
            match *punctuation {
                "[" => {
                    self.advance();
                    let index = self.expression()?;
                    self.expect("]")?;
                    node = self.node(Expr::Index(node, index), start)?;
                }
                "." | "->" => {
                    self.advance();
                    let name_at = self.here();
                    let Some(name) = self.word().map(str::to_owned) else {
                        return Err(self.unexpected("the name of a member is missing"));
                    };
                    self.advance();
                    node = self.node(Expr::Member { of: node, name, name_at }, start)?;
                }
                "(" => {
                    let at = node.at.start..self.here().end;
                    return Err(Fault::wrong(
                        at,
                        "functions cannot be called: the kernel of a dump does not run",
                    ));
                }
                _ => return Ok(node),
            }
        }
    }

    fn primary(&mut self) -> Eval<Node> {
        let start = self.here().start;
        let kind = match self.peek() {
            Some(Kind::Number(number)) => Expr::Number(*number),
            Some(Kind::Char(byte)) => Expr::Char(*byte),
            Some(Kind::Text(_)) => return self.text(start),
            Some(Kind::Variable(name)) => Expr::Variable((*name).to_owned()),
            Some(Kind::Punct("(")) => return self.parenthesised(),
            Some(Kind::Punct("::")) => return self.scoped(start, ""),
            Some(Kind::Quoted(name)) => {
                let name = *name;
                self.advance();
                return self.perhaps_scoped(start, name);
            }
            Some(Kind::Word(word)) => {
                let word = *word;
                if BUILT_IN.contains(&word) && self.is_at(1, "(") {
                    return self.built_in(start, word);
                }
                if !self.is_at(1, "::") && self.starts_type(0) {
                    let of = self.type_name()?;
                    return Err(Fault::wrong(of.at, "a type is no value"));
                }
                self.advance();
                return self.perhaps_scoped(start, word);
            }
            Some(_) => return Err(self.unexpected("a value is missing")),
            None => return Err(self.unexpected("a value is missing")),
        };
        self.advance();
        self.node(kind, start)
    }

    fn parenthesised(&mut self) -> Eval<Node> {
        self.advance();
        let node = self.expression()?;
        self.expect(")")?;
        Ok(node)
    }

    /// String literals beside each other are one.
    fn text(&mut self, start: usize) -> Eval<Node> {
        let mut text = Vec::new();
        while let Some(Kind::Text(part)) = self.peek() {
            text.extend_from_slice(part);
            self.advance();
        }
        self.node(Expr::Text(text), start)
    }

    fn perhaps_scoped(&mut self, start: usize, name: &str) -> Eval<Node> {
        if self.is("::") { self.scoped(start, name) } else { self.node(Expr::Name(name.to_owned()), start) }
    }

    /// `scope::name`, at the `::`.
    fn scoped(&mut self, start: usize, scope: &str) -> Eval<Node> {
        self.advance();
        let name = match self.peek() {
            Some(Kind::Word(name) | Kind::Quoted(name)) => (*name).to_owned(),
            _ => return Err(self.unexpected("a name is missing")),
        };
        self.advance();
        if scope.is_empty() {
            return self.node(Expr::Name(name), start);
        }
        self.node(Expr::Scoped { scope: scope.to_owned(), name }, start)
    }

    fn built_in(&mut self, start: usize, word: &str) -> Eval<Node> {
        self.advance();
        self.expect("(")?;
        let kind = match word {
            "offsetof" | "__builtin_offsetof" => {
                let of = self.type_name()?;
                self.expect(",")?;
                Expr::OffsetOf(of, self.path()?)
            }
            "per_cpu" | "per_cpu_ptr" => {
                let variable = self.argument()?;
                self.expect(",")?;
                let cpu = self.argument()?;
                match word {
                    "per_cpu" => Expr::PerCpu(variable, cpu),
                    _ => Expr::PerCpuPointer(variable, cpu),
                }
            }
            _ => {
                let pointer = self.argument()?;
                self.expect(",")?;
                let of = self.type_name()?;
                self.expect(",")?;
                Expr::ContainerOf { pointer, of, path: self.path()? }
            }
        };
        self.expect(")")?;
        self.node(kind, start)
    }

    fn path(&mut self) -> Eval<Path> {
        let mut steps = Vec::new();
        loop {
            let at = self.here();
            let Some(name) = self.word().map(str::to_owned) else {
                return Err(self.unexpected("the name of a member is missing"));
            };
            self.advance();
            steps.push(Step::Member(name, at));
            while self.take("[") {
                steps.push(Step::Index(self.expression()?));
                self.expect("]")?;
            }
            if !self.take(".") {
                return Ok(Path { steps });
            }
        }
    }
}

impl Expr {
    /// The depth of the deepest part.
    fn deepest_part(&self) -> usize {
        match self {
            Self::Number(_)
            | Self::Char(_)
            | Self::Text(_)
            | Self::Name(_)
            | Self::Variable(_)
            | Self::Scoped { .. } => 0,
            Self::Unary(_, of) | Self::Member { of, .. } | Self::SizeOf(of) => of.depth,
            Self::Binary(_, a, b) | Self::Index(a, b) | Self::PerCpu(a, b) | Self::PerCpuPointer(a, b) => {
                a.depth.max(b.depth)
            }
            Self::Conditional(a, b, c) => a.depth.max(b.depth).max(c.depth),
            Self::Cast(of, value) | Self::At(of, value) => of.depth.max(value.depth),
            Self::SizeOfType(of) | Self::AlignOfType(of) => of.depth,
            Self::OffsetOf(of, path) => of.depth.max(path.deepest()),
            Self::ContainerOf { pointer, of, path } => pointer.depth.max(of.depth).max(path.deepest()),
        }
    }
}

impl Path {
    fn deepest(&self) -> usize {
        let depths = self.steps.iter().map(|step| match step {
            Step::Member(..) => 0,
            Step::Index(index) => index.depth,
        });
        depths.max().unwrap_or(0)
    }
}
