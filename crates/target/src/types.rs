//! Type information: the kernel's own BTF first, then a vmlinux's BTF, then its DWARF.

use kdive_debuginfo::btf::Btf;
use kdive_debuginfo::{Blob, Tag, Type, TypeId, Types};

use crate::kernel::Kernel;
use crate::lacks::{Field, Lacks, Names};
use crate::load::{Layout, Member, MemberNames};

/// Where types came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum TypesSource {
    /// The kernel's BTF, in the dump.
    DumpBtf,
    /// BTF of the vmlinux given.
    VmlinuxBtf,
    /// DWARF of the vmlinux given.
    Dwarf,
}

/// The kernel's types.
#[derive(Clone)]
pub(crate) struct KernelTypes {
    pub(crate) types: Types,
    pub(crate) source: TypesSource,
}

/// Real BTF of a kernel is 3 to 10 MB.
const MAX_BTF_BYTES: u64 = 256 << 20;
/// Size of a pointer on the 64-bit machines that kdive opens.
pub(crate) const POINTER_BYTES: u64 = 8;

impl KernelTypes {
    pub(crate) fn find(kernel: &Kernel) -> Field<Self> {
        if !kernel.options().no_btf {
            if let Some(types) = btf_in_dump(kernel) {
                return Ok(Self { types: with_variables(kernel, types), source: TypesSource::DumpBtf });
            }
            let blob = kernel.vmlinux().and_then(|vmlinux| vmlinux.btf().ok().flatten());
            if let Some(types) = blob.and_then(from_btf) {
                return Ok(Self { types: with_variables(kernel, types), source: TypesSource::VmlinuxBtf });
            }
        }
        #[cfg(feature = "dwarf")]
        if let Some(types) = crate::dwarf::types(kernel) {
            return Ok(Self { types, source: TypesSource::Dwarf });
        }
        Err(Lacks::Types)
    }
}

/// The kernel's types and its modules'.
struct AllTypes {
    types: Types,
    /// Why types of modules are lacking.
    lacks: Vec<Lacks>,
}

impl AllTypes {
    fn find(kernel: &Kernel) -> Field<Self> {
        let types = kernel.types()?;
        let (types, lacks) = match kernel.options().no_btf {
            true => (types.clone(), Vec::new()),
            false => crate::os::module_btf::with_modules(kernel, types),
        };
        #[cfg(feature = "dwarf")]
        let types = crate::dwarf::with_modules(kernel, types);
        Ok(Self { types, lacks })
    }
}

/// BTF has the types of per-CPU variables only.
fn with_variables(kernel: &Kernel, types: Types) -> Types {
    #[cfg(feature = "dwarf")]
    let types = crate::dwarf::with_variables(kernel, types);
    #[cfg(not(feature = "dwarf"))]
    let _ = kernel;
    types
}

fn btf_in_dump(kernel: &Kernel) -> Option<Types> {
    let start = kernel.symbol("__start_BTF").ok()?;
    let stop = kernel.symbol("__stop_BTF").ok()?;
    let length = stop.since(start);
    if length == 0 || length > MAX_BTF_BYTES {
        return None;
    }
    // Damaged or partly excluded BTF still has the types before the hole.
    let mut bytes = vec![0; length as usize];
    let (count, _) = kernel.memory().read(start, &mut bytes);
    bytes.truncate(count);
    from_btf(Blob::from(bytes))
}

fn from_btf(blob: Blob) -> Option<Types> {
    let btf = Btf::parse(blob).ok()?;
    Some(Types::new(POINTER_BYTES).with_btf(btf))
}

impl Kernel {
    /// The kernel's types and its modules', whose BTF is read on the first call. Modules without BTF have the types of
    /// their DWARF, where it is found.
    pub fn all_types(&self) -> Field<&Types> {
        self.types_of_modules().map(|found| &found.types)
    }

    /// Why types of modules are lacking, where they are.
    pub fn module_types_lacking(&self) -> Field<&[Lacks]> {
        self.types_of_modules().map(|found| found.lacks.as_slice())
    }

    fn types_of_modules(&self) -> Field<&AllTypes> {
        self.once(AllTypes::find).as_ref().map_err(Lacks::clone)
    }

    /// The kernel's own types.
    pub fn types(&self) -> Field<&Types> {
        self.kernel_types().as_ref().map(|types| &types.types).map_err(Lacks::clone)
    }

    /// Where the types came from.
    pub fn types_source(&self) -> Field<TypesSource> {
        self.kernel_types().as_ref().map(|types| types.source).map_err(Lacks::clone)
    }

    /// A struct, union or typedef of a record, by name.
    pub fn record(&self, name: &str) -> Field<TypeId> {
        record_in(self.types()?, name)
    }

    /// Size of a record in bytes.
    pub fn size_of(&self, record: &str) -> Field<u64> {
        let id = self.record(record)?;
        size_in(self.types()?, id, record)
    }

    /// Where the first member of these names lies in a record. Paths go through members (`mm.pgd`).
    pub fn member(&self, record: &str, members: &[&str]) -> Field<Member> {
        self.member_in(self.types()?, record, members)
    }

    /// [`Kernel::member`] of a record that a module may define.
    pub fn module_member(&self, record: &str, members: &[&str]) -> Field<Member> {
        self.member_in(self.types_with(record)?, record, members)
    }

    /// The names and values of an enumeration that a module may define.
    pub fn module_enumerators(&self, name: &str) -> Field<Vec<(Box<str>, i128)>> {
        self.enumerators(name).or_else(|_| enumerators_in(self.all_types()?, name))
    }

    /// The value of an enumerator that a module may have.
    pub fn module_enumerator(&self, name: &str) -> Field<i128> {
        self.enumerator(name)
            .or_else(|lacks| self.all_types()?.enumerator(name).map(|(_, value)| value).map_err(|_| lacks))
    }

    /// The types that have a record: the kernel's own, or those with its modules'.
    fn types_with(&self, record: &str) -> Field<&Types> {
        let own = self.types()?;
        if record_in(own, record).is_ok() { Ok(own) } else { self.all_types() }
    }

    fn member_in(&self, types: &Types, record: &str, members: &[&str]) -> Field<Member> {
        let id = record_in(types, record)?;
        members
            .iter()
            .filter(|member| !self.options().hidden.member(record, member))
            .find_map(|member| {
                let found = member_of(types, id, member)?;
                self.options().hidden.found_member(record, member);
                Some(found)
            })
            .ok_or_else(|| Lacks::Member { record: record.into(), members: members.into() })
    }

    /// Offset of a member in bytes.
    pub fn offset_of(&self, record: &str, member: &str) -> Field<u64> {
        self.member(record, &[member]).map(|member| member.offset)
    }

    /// The value of an enumerator.
    pub fn enumerator(&self, name: &str) -> Field<i128> {
        let missing = || Lacks::unavailable(format_args!("this kernel has no enumerator {name}"));
        self.types()?.enumerator(name).map(|(_, value)| value).map_err(|_| missing())
    }

    /// The names and values of an enumeration, in the order of their declaration.
    pub fn enumerators(&self, name: &str) -> Field<Vec<(Box<str>, i128)>> {
        enumerators_in(self.types()?, name)
    }

    /// Binds the members of a record. With `of_module`, a module may define it.
    pub(crate) fn bind(&self, records: &[&str], members: &[MemberNames], of_module: bool) -> Layout {
        let known = |types: &Types| records.iter().find(|record| record_in(types, record).is_ok());
        let own = || self.types().ok().and_then(|types| Some((types, known(types)?)));
        let of_modules = || self.all_types().ok().and_then(|types| Some((types, known(types)?)));
        let found = own().or_else(|| of_module.then(of_modules).flatten());
        let Some((types, record)) = found else {
            let lacks = match self.types() {
                Err(lacks) => lacks,
                Ok(_) => Lacks::Type(Names::from(records)),
            };
            let members = members.iter().map(|_| Err(lacks.clone())).collect();
            return Layout { record: Err(lacks), members, span: (0, 0) };
        };
        let members: Vec<_> = members.iter().map(|names| self.member_in(types, record, names.0)).collect();
        let known = || members.iter().flatten();
        let low = known().map(|member| member.offset).min().unwrap_or(0);
        let high = known().map(|member| member.offset.saturating_add(member.bytes)).max().unwrap_or(0);
        let size = record_in(types, record).and_then(|id| size_in(types, id, record));
        Layout { record: size, members, span: (low, high) }
    }
}

fn record_in(types: &Types, name: &str) -> Field<TypeId> {
    [Tag::Struct, Tag::Union, Tag::Typedef]
        .into_iter()
        .find_map(|tag| types.find(tag, name).ok())
        .ok_or_else(|| Lacks::Type(name.into()))
}

fn size_in(types: &Types, id: TypeId, name: &str) -> Field<u64> {
    types.size_of(id).ok_or_else(|| Lacks::Type(name.into()))
}

fn enumerators_in(types: &Types, name: &str) -> Field<Vec<(Box<str>, i128)>> {
    let lacks = || Lacks::Type(name.into());
    let id = types.find(Tag::Enum, name).map_err(|_| lacks())?;
    match types.stripped(id).as_deref() {
        Some(Type::Enum(of)) => {
            Ok(of.values.iter().map(|(name, value)| (Box::from(&**name), *value)).collect())
        }
        _ => Err(lacks()),
    }
}

fn member_of(types: &Types, record: TypeId, path: &str) -> Option<Member> {
    let found = types.member(record, path).ok()?;
    let bytes = types.size_of(found.of).unwrap_or(0);
    let offset = found.byte_offset();
    let bits = found.bit_size.map(|width| {
        // A bit-field is read as the storage unit of its declared type, aligned, so that it never straddles.
        let unit_bits = bytes.max(1).saturating_mul(8);
        let inside = found.bit_offset % unit_bits;
        (inside as u32, width)
    });
    let offset = if bits.is_some() { offset.saturating_sub(offset % bytes.max(1)) } else { offset };
    Some(Member { offset, bytes, bits, signed: is_signed(types, found.of), of: found.of })
}

fn is_signed(types: &Types, id: TypeId) -> bool {
    match types.stripped(id).as_deref() {
        Some(Type::Int { encoding, .. }) => *encoding == kdive_debuginfo::types::Encoding::Signed,
        Some(Type::Enum(of)) => of.signed,
        _ => false,
    }
}
