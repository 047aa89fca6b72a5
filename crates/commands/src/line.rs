//! One typed line: a command's words, where its output goes, and what is for the shell.
//!
//! - Words end at white space. Double quotes and parentheses hold a word together and protect `|`, `<`, `>` and `#`;
//!   parentheses stay in the word (they are part of an expression), double quotes do not.
//! - Single quotes protect too and stay in the word, because commands take `'...'` for a regular expression: see
//!   [`regex_of`].
//! - `#` and `//` at the start of a word begin a comment.
//! - `->` is C's arrow and not a redirection.
//! - From the first unprotected `|` on the text is the shell's, except for a stage `json`, which asks for the record.

use std::iter::Peekable;
use std::str::CharIndices;

/// A line, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line {
    /// Nothing to do: blank, or a comment.
    Empty,
    /// `!command`: for the shell. Empty for a shell to type into.
    Shell(String),
    /// `< file`: the lines of a file are to be run.
    Script(String),
    /// A command of ours.
    Command(CommandLine),
}

/// A command, and where its records go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CommandLine {
    /// Its name and arguments; at least the name.
    pub words: Vec<String>,
    /// `< file`: run once for each line of the file, with the line's words as further arguments.
    pub arguments: Option<String>,
    /// Whether the record is wanted (`| json`).
    pub json: bool,
    /// Where the output goes.
    pub output: Output,
}

/// Where output goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Output {
    /// Where the host shows things.
    #[default]
    Host,
    /// Into a command line of the shell.
    Pipe(String),
    /// Into a file.
    File {
        /// Its path, as typed.
        path: String,
        /// Whether it goes behind what the file has.
        append: bool,
    },
}

/// A line that cannot be taken apart.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LineError {
    /// A quote or parenthesis without its partner.
    #[error("{0} is not closed")]
    Unclosed(char),
    /// A redirection or a pipe without its other side.
    #[error("nothing follows {0}")]
    NothingAfter(&'static str),
    /// A redirection or a pipe without a command.
    #[error("no command before {0}")]
    NothingBefore(&'static str),
    /// Something behind the file name of a redirection.
    #[error("{0:?} behind the name of the output file")]
    Behind(String),
}

/// The regular expression in a word typed in single quotes.
#[must_use]
pub fn regex_of(word: &str) -> Option<&str> {
    word.strip_prefix('\'')?.strip_suffix('\'')
}

/// Takes a line apart.
pub fn parse(line: &str) -> Result<Line, LineError> {
    let line = line.trim();
    if let Some(command) = line.strip_prefix('!') {
        return Ok(Line::Shell(command.trim().to_owned()));
    }
    let mut scanner = Scanner::new(line);
    let mut command = CommandLine::default();
    loop {
        match scanner.next()? {
            Token::Word(word) => command.words.push(word),
            Token::End => break,
            Token::Less => command.arguments = Some(scanner.file("<")?),
            Token::Pipe => {
                require_command(&command, "|")?;
                stages(&mut command, scanner)?;
                break;
            }
            Token::Greater { append } => {
                require_command(&command, ">")?;
                output_file(&mut command, &mut scanner, append)?;
                break;
            }
        }
    }
    Ok(match (command.words.is_empty(), command.arguments) {
        (true, None) => Line::Empty,
        (true, Some(file)) => Line::Script(file),
        (false, arguments) => Line::Command(CommandLine { arguments, ..command }),
    })
}

/// The words of a line that has no redirections, such as one of a file of arguments.
pub fn words(line: &str) -> Result<Vec<String>, LineError> {
    match parse(line)? {
        Line::Command(command) => Ok(command.words),
        _ => Ok(Vec::new()),
    }
}

fn require_command(command: &CommandLine, before: &'static str) -> Result<(), LineError> {
    if command.words.is_empty() { Err(LineError::NothingBefore(before)) } else { Ok(()) }
}

/// What follows the first `|`.
fn stages(command: &mut CommandLine, mut scanner: Scanner<'_>) -> Result<(), LineError> {
    let shell = scanner.rest().trim().to_owned();
    if shell.is_empty() {
        return Err(LineError::NothingAfter("|"));
    }
    if scanner.next() == Ok(Token::Word("json".into())) {
        let after = scanner.clone();
        match scanner.next()? {
            Token::End => {
                command.json = true;
                return Ok(());
            }
            Token::Greater { append } => {
                command.json = true;
                return output_file(command, &mut scanner, append);
            }
            Token::Pipe => {
                command.json = true;
                let shell =
                    after.rest().trim_start_matches(|c: char| c == '|' || c.is_whitespace()).trim_end();
                if shell.is_empty() {
                    return Err(LineError::NothingAfter("|"));
                }
                command.output = Output::Pipe(shell.to_owned());
                return Ok(());
            }
            // `json` with arguments is a program of that name.
            Token::Word(_) | Token::Less => {}
        }
    }
    command.output = Output::Pipe(shell);
    Ok(())
}

fn output_file(command: &mut CommandLine, scanner: &mut Scanner<'_>, append: bool) -> Result<(), LineError> {
    let path = scanner.file(if append { ">>" } else { ">" })?;
    let rest = scanner.rest().trim();
    match scanner.next()? {
        Token::End => {
            command.output = Output::File { path, append };
            Ok(())
        }
        _ => Err(LineError::Behind(rest.to_owned())),
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Token {
    Word(String),
    Less,
    Greater { append: bool },
    Pipe,
    End,
}

#[derive(Clone)]
struct Scanner<'a> {
    line: &'a str,
    chars: Peekable<CharIndices<'a>>,
}

impl<'a> Scanner<'a> {
    fn new(line: &'a str) -> Self {
        Self { line, chars: line.char_indices().peekable() }
    }

    /// What has not been scanned.
    fn rest(&self) -> &'a str {
        match self.chars.clone().next() {
            Some((at, _)) => self.line.get(at..).unwrap_or_default(),
            None => "",
        }
    }

    fn next(&mut self) -> Result<Token, LineError> {
        while self.chars.next_if(|(_, character)| character.is_whitespace()).is_some() {}
        let rest = self.rest();
        if rest.starts_with('#') || rest.starts_with("//") {
            return Ok(Token::End);
        }
        let Some(&(_, first)) = self.chars.peek() else { return Ok(Token::End) };
        let token = match first {
            '|' => Token::Pipe,
            '<' if !rest.starts_with("<<") => Token::Less,
            '>' => Token::Greater { append: rest.starts_with(">>") },
            _ => return self.word().map(Token::Word),
        };
        self.chars.next();
        if token == (Token::Greater { append: true }) {
            self.chars.next();
        }
        Ok(token)
    }

    fn word(&mut self) -> Result<String, LineError> {
        let mut word = String::new();
        let mut depth = 0_usize;
        while let Some(&(_, character)) = self.chars.peek() {
            // `<<` is C's: there are no here-documents.
            let shifts = self.rest().starts_with("<<") || (character == '<' && word.ends_with('<'));
            let protected = depth > 0 || shifts || (character == '>' && self.is_arrow(&word));
            if !protected && (character.is_whitespace() || matches!(character, '|' | '<' | '>')) {
                break;
            }
            self.chars.next();
            match character {
                '"' => self.quoted('"', &mut word)?,
                '\'' => {
                    word.push('\'');
                    self.quoted('\'', &mut word)?;
                    word.push('\'');
                }
                _ => word.push(character),
            }
            match character {
                '(' => depth = depth.saturating_add(1),
                ')' => depth = depth.saturating_sub(1),
                _ => {}
            }
        }
        if depth > 0 { Err(LineError::Unclosed('(')) } else { Ok(word) }
    }

    /// Whether the `>` to come ends a `->` between two names.
    fn is_arrow(&self, word: &str) -> bool {
        let follows = self.rest().chars().nth(1).is_some_and(|next| next.is_alphabetic() || next == '_');
        follows && word.strip_suffix('-').is_some_and(|before| !before.is_empty())
    }

    /// Takes up to the closing quote; in double quotes a backslash protects a quote or a backslash.
    fn quoted(&mut self, quote: char, word: &mut String) -> Result<(), LineError> {
        while let Some((_, character)) = self.chars.next() {
            if character == quote {
                return Ok(());
            }
            let escaped = || self.chars.clone().next().filter(|(_, next)| matches!(next, '"' | '\\'));
            match escaped() {
                Some((_, next)) if quote == '"' && character == '\\' => {
                    self.chars.next();
                    word.push(next);
                }
                _ => word.push(character),
            }
        }
        Err(LineError::Unclosed(quote))
    }

    /// The file name after a redirection.
    fn file(&mut self, after: &'static str) -> Result<String, LineError> {
        match self.next()? {
            Token::Word(word) => Ok(word.trim_matches('\'').to_owned()),
            _ => Err(LineError::NothingAfter(after)),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn command(line: &str) -> CommandLine {
        match parse(line).unwrap() {
            Line::Command(command) => command,
            other => panic!("{line}: {other:?}"),
        }
    }

    fn pipe(text: &str) -> Output {
        Output::Pipe(text.into())
    }

    #[test]
    fn words_and_where_they_go() {
        assert_eq!(command("  ps -m\t1 ").words, ["ps", "-m", "1"]);
        let piped = command("ps | grep 'a > b' | head");
        assert_eq!((piped.words, piped.output), (vec!["ps".to_owned()], pipe("grep 'a > b' | head")));
        assert_eq!(command("ps>out").output, Output::File { path: "out".into(), append: false });
        assert_eq!(
            command("ps >> 'my out' # x").output,
            Output::File { path: "my out".into(), append: true }
        );
        assert_eq!(command("rd < addresses").arguments.as_deref(), Some("addresses"));
        assert_eq!(parse("< script").unwrap(), Line::Script("script".into()));
        assert_eq!(parse("! ls | wc").unwrap(), Line::Shell("ls | wc".into()));
        assert_eq!(parse("!").unwrap(), Line::Shell(String::new()));
    }

    #[test]
    fn comments_are_nothing() {
        for line in ["", "   ", "# ps", "// ps", "  #"] {
            assert_eq!(parse(line).unwrap(), Line::Empty, "{line:?}");
        }
        assert_eq!(command("ps # all | head").words, ["ps"]);
        assert_eq!(command("ps a#b http://x").words, ["ps", "a#b", "http://x"]);
    }

    #[test]
    fn quotes_and_parentheses_protect() {
        assert_eq!(command(r#"log "a | b" "q\"q""#).words, ["log", "a | b", "q\"q"]);
        assert_eq!(command("eval (1 > 0 | 2)").words, ["eval", "(1 > 0 | 2)"]);
        assert_eq!(command("ps 'k.*|x y'").words, ["ps", "'k.*|x y'"]);
        assert_eq!(regex_of("'k.*'"), Some("k.*"));
        assert_eq!(regex_of("'"), None);
        assert_eq!(command("p init_task.mm->pgd > f").words, ["p", "init_task.mm->pgd"]);
        assert_eq!(command(r"foreach \bt bt").words, ["foreach", r"\bt", "bt"]);
    }

    #[test]
    fn the_record_is_a_stage() {
        let line = command("ps | json");
        assert!(line.json && line.output == Output::Host);
        let line = command("ps |json| jq .rows > x");
        assert!(line.json);
        assert_eq!(line.output, pipe("jq .rows > x"));
        let line = command("ps | json >> f");
        assert!(line.json);
        assert_eq!(line.output, Output::File { path: "f".into(), append: true });
        let line = command("ps | json -x");
        assert!(!line.json);
        assert_eq!(line.output, pipe("json -x"));
    }

    #[test]
    fn half_a_line_says_what_lacks() {
        let error = |line: &str| parse(line).unwrap_err().to_string();
        assert_eq!(error("ps 'x"), "' is not closed");
        assert_eq!(error("p (1 + 2"), "( is not closed");
        assert_eq!(error("ps |"), "nothing follows |");
        assert_eq!(error("ps >"), "nothing follows >");
        assert_eq!(error("ps <"), "nothing follows <");
        assert_eq!(error("| head"), "no command before |");
        assert_eq!(error("ps > a b"), "\"b\" behind the name of the output file");
        assert_eq!(error("ps | json |"), "nothing follows |");
    }

    proptest! {
        #[test]
        fn any_line_parses_or_says_why(line in "[ -~äé]{0,60}") {
            let _ = parse(&line);
        }

        #[test]
        fn plain_words_come_back(list in proptest::collection::vec("[a-z0-9.=*-]{1,8}", 1..6)) {
            prop_assert_eq!(command(&list.join("  ")).words, list);
        }
    }
}
