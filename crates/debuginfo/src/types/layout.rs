//! Whether two types are the same thing twice.

use super::{Member, Param, Type, TypeId, Types};

/// How deep anonymous records and the like are compared. Named types that are members or targets compare by their
/// spelling: their own definitions are compared when they are looked up.
const DEPTH: usize = 12;

impl Types {
    /// Whether two ids mean the same: equal names, sizes, members and offsets, in whatever unit they are.
    #[must_use]
    pub fn same_layout(&self, a: TypeId, b: TypeId) -> bool {
        a == b || self.same(a, b, 0)
    }

    fn same(&self, a: TypeId, b: TypeId, depth: usize) -> bool {
        if a == b || depth > DEPTH {
            return true;
        }
        let (Some(a), Some(b)) = (self.get(a), self.get(b)) else { return false };
        let deeper = depth.saturating_add(1);
        match (&*a, &*b) {
            (Type::Record(x), Type::Record(y)) => {
                let heads = x.kind == y.kind && x.name == y.name && x.bytes == y.bytes;
                // Below the top a named record stands for itself; its size was just compared.
                let named_member = depth > 0 && x.name.is_some();
                heads && (named_member || self.same_members(&x.members, &y.members, deeper))
            }
            (Type::Function(x), Type::Function(y)) => {
                x.variadic == y.variadic
                    && self.same(x.returns, y.returns, deeper)
                    && self.same_params(&x.params, &y.params, deeper)
            }
            (Type::Pointer { to: x, bytes: n }, Type::Pointer { to: y, bytes: m }) => {
                n == m && self.same_target(*x, *y, deeper)
            }
            (Type::Array { of: x, count: n }, Type::Array { of: y, count: m }) => {
                n == m && self.same(*x, *y, deeper)
            }
            (Type::Qualified { qualifier: p, of: x }, Type::Qualified { qualifier: q, of: y }) => {
                p == q && self.same(*x, *y, deeper)
            }
            (Type::Typedef { name: n, to: x }, Type::Typedef { name: m, to: y }) => {
                n == m && self.same(*x, *y, deeper)
            }
            (x, y) => x == y,
        }
    }

    /// Targets of pointers: a declaration of a record is as good as its definition there.
    fn same_target(&self, a: TypeId, b: TypeId, depth: usize) -> bool {
        match (self.get(a).as_deref(), self.get(b).as_deref()) {
            (Some(Type::Record(x)), Some(Type::Record(y))) if x.name.is_some() => {
                x.name == y.name && x.kind == y.kind
            }
            (Some(Type::Record(_)), Some(Type::Declaration { .. }))
            | (Some(Type::Declaration { .. }), Some(Type::Record(_))) => self.name_of(a) == self.name_of(b),
            _ => self.same(a, b, depth),
        }
    }

    fn same_members(&self, a: &[Member], b: &[Member], depth: usize) -> bool {
        a.len() == b.len()
            && a.iter().zip(b).all(|(x, y)| {
                x.name == y.name
                    && x.bit_offset == y.bit_offset
                    && x.bit_size == y.bit_size
                    && self.same(x.of, y.of, depth)
            })
    }

    fn same_params(&self, a: &[Param], b: &[Param], depth: usize) -> bool {
        a.len() == b.len() && a.iter().zip(b).all(|(x, y)| self.same(x.of, y.of, depth))
    }
}
