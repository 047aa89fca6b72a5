//! BTF, the kernel's own compact type information (Documentation/bpf/btf.rst).
//!
//! The blob stays as it is: opening notes where each type starts, names and members are decoded when asked for. A
//! damaged blob keeps what lies before the damage. Module BTF is split: its ids and string offsets go on where those of
//! its base end. The base is the kernel's BTF, or in a `.ko` file the distilled base of section `.BTF.base`.

mod kind;
#[cfg(test)]
mod tests;
mod unit;

use std::sync::Arc;

use kdive_base::Endian;
use kdive_base::bytes::until_nul;

use self::kind::{HEAD, Kind};
use self::unit::BtfUnit;
use crate::blob::Blob;
use crate::types::Types;

/// `magic` of the header, in the byte order of the machine.
const MAGIC: u16 = 0xeb9f;
/// The header's length in version 1; later ones may be longer.
const HEADER: u32 = 24;

/// Why bytes are not usable as BTF.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum BtfError {
    /// The magic number is missing.
    #[error("not BTF: the magic number is missing")]
    NotBtf,
    /// A version from the future.
    #[error("BTF version {0} is not known (1 is)")]
    Version(u8),
    /// The header points outside the blob.
    #[error("BTF header is damaged: no types or strings in the {0} bytes that are there")]
    Header(usize),
    /// Split BTF needs the BTF that it was built on.
    #[error("module BTF without the kernel's BTF that it builds on")]
    NoBase,
}

/// One BTF blob with an index of where its types start.
#[derive(Clone, Debug)]
pub struct Btf {
    data: Blob,
    endian: Endian,
    /// Offset of the string section in `data`, and its length.
    strings: (usize, usize),
    /// The name offset of its first string: those below are the base's.
    strings_from: u32,
    base: Option<Arc<Btf>>,
    /// Id of the first type here: 1, or what follows the base's last id.
    first: u32,
    /// Offset in `data` of each type, from `first` on.
    offsets: Vec<u32>,
    /// Whether the compiler that made it marked signed enums (pahole 1.24 and later).
    marks_signed_enums: bool,
    /// Whether it is a distilled base: its records are names and sizes only.
    distilled: bool,
    /// Bytes of types that could not be read.
    lost: usize,
}

impl Btf {
    /// Opens the kernel's BTF.
    ///
    /// # Errors
    /// When this is no BTF, or its header is damaged. Damage behind the header only shortens it: see [`Btf::lost`].
    pub fn parse(data: Blob) -> Result<Self, BtfError> {
        Self::parse_on(data, None, false)
    }

    /// Opens the split BTF of a module.
    ///
    /// # Errors
    /// As [`Btf::parse`].
    pub fn parse_split(data: Blob, base: &Arc<Self>) -> Result<Self, BtfError> {
        Self::parse_on(data, Some(Arc::clone(base)), false)
    }

    /// Opens the distilled base in a module file (section `.BTF.base`): enough of the kernel's types to recognise them.
    ///
    /// # Errors
    /// As [`Btf::parse`].
    pub fn parse_distilled_base(data: Blob) -> Result<Self, BtfError> {
        Self::parse_on(data, None, true)
    }

    fn parse_on(data: Blob, base: Option<Arc<Self>>, distilled: bool) -> Result<Self, BtfError> {
        let endian = match (Endian::Little.u16(&data, 0), Endian::Big.u16(&data, 0)) {
            (Some(MAGIC), _) => Endian::Little,
            (_, Some(MAGIC)) => Endian::Big,
            _ => return Err(BtfError::NotBtf),
        };
        match Endian::Little.u8(&data, 2) {
            Some(1) => {}
            version => return Err(BtfError::Version(version.unwrap_or(0))),
        }
        let damaged = BtfError::Header(data.len());
        let field = |at| endian.u32(&data, at).ok_or(damaged);
        let header = field(4)?;
        if header < HEADER {
            return Err(damaged);
        }
        // A cut blob keeps what is there.
        let section = |offset: u32, length: u32| {
            let start = usize::try_from(u64::from(header).saturating_add(offset.into())).ok()?;
            let rest = data.len().checked_sub(start)?;
            Some((start, rest.min(length as usize)))
        };
        let types = section(field(8)?, field(12)?).ok_or(damaged)?;
        let strings = section(field(16)?, field(20)?).unwrap_or((data.len(), 0));
        let mut btf = Self {
            first: base.as_ref().map_or(1, |base| base.end()),
            strings_from: base
                .as_ref()
                .map_or(0, |base| base.strings_from.saturating_add(base.strings.1 as u32)),
            marks_signed_enums: base.as_ref().is_some_and(|base| base.marks_signed_enums),
            data,
            endian,
            strings,
            base,
            offsets: Vec::new(),
            distilled,
            lost: 0,
        };
        btf.index(types);
        Ok(btf)
    }

    /// Notes where each type starts, up to the first that makes no sense.
    fn index(&mut self, (start, length): (usize, usize)) {
        let bytes = self.data.get(start..start.saturating_add(length)).unwrap_or_default();
        let mut offsets = Vec::with_capacity(length.div_euclid(24));
        let mut at = 0_usize;
        while let Some(info) = self.endian.u32(bytes, at.saturating_add(4)) {
            let Some(kind) = Kind::of(info) else { break };
            let end = at.saturating_add(kind.length(info));
            if end > bytes.len() {
                break;
            }
            self.marks_signed_enums |= kind == Kind::Enum64 || (kind == Kind::Enum && info >> 31 == 1);
            let Ok(offset) = u32::try_from(start.saturating_add(at)) else { break };
            offsets.push(offset);
            at = end;
        }
        self.lost = bytes.len().saturating_sub(at);
        self.offsets = offsets;
    }

    /// How many bytes at the end of the types could not be read: 0 when the blob is whole.
    #[must_use]
    pub const fn lost(&self) -> usize {
        self.lost
    }

    /// How many types there are here, without the base's.
    #[must_use]
    pub fn len(&self) -> usize {
        self.offsets.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.offsets.is_empty()
    }

    /// The id after the last.
    fn end(&self) -> u32 {
        self.first.saturating_add(self.offsets.len() as u32)
    }

    /// The head of a type of this blob (not of its base): name offset, info, size or type; and where the rest starts.
    fn head(&self, id: u32) -> Option<Head> {
        let at = *self.offsets.get(id.checked_sub(self.first)? as usize)? as usize;
        let name = self.endian.u32(&self.data, at)?;
        let info = self.endian.u32(&self.data, at.checked_add(4)?)?;
        let size_or_type = self.endian.u32(&self.data, at.checked_add(8)?)?;
        Some(Head { kind: Kind::of(info)?, name, info, size_or_type, rest: at.checked_add(HEAD)? })
    }

    /// A type of this blob or of its base.
    fn find(&self, id: u32) -> Option<(&Self, Head)> {
        let mut btf = self;
        while id < btf.first {
            btf = btf.base.as_deref()?;
        }
        Some((btf, btf.head(id)?))
    }

    /// The 32-bit word `word` of entry `entry` after a head of this blob.
    fn word(&self, head: &Head, entry: usize, word: usize) -> Option<u32> {
        let offset = entry.checked_mul(head.kind.entry())?.checked_add(word.checked_mul(4)?)?;
        self.endian.u32(&self.data, head.rest.checked_add(offset)?)
    }

    /// The name at an offset of the string section, which goes on from the base's; empty where there is none.
    fn name(&self, offset: u32) -> &[u8] {
        let mut btf = self;
        while offset < btf.strings_from {
            let Some(base) = &btf.base else { return &[] };
            btf = base;
        }
        let (start, length) = btf.strings;
        let own = offset.saturating_sub(btf.strings_from) as usize;
        let strings = btf.data.get(start..start.saturating_add(length)).unwrap_or_default();
        until_nul(strings.get(own..).unwrap_or_default())
    }
}

/// The part that all types have.
#[derive(Clone, Copy, Debug)]
struct Head {
    kind: Kind,
    name: u32,
    info: u32,
    size_or_type: u32,
    /// Offset in the blob of what follows.
    rest: usize,
}

impl Head {
    /// The `kind_flag` bit.
    const fn flag(&self) -> bool {
        self.info >> 31 == 1
    }

    const fn count(&self) -> usize {
        kind::count(self.info)
    }
}

impl Types {
    /// A snapshot with the kernel's BTF, on which modules' BTF builds.
    #[must_use]
    pub fn with_btf(&self, btf: Btf) -> Self {
        let btf = Arc::new(btf);
        let mut number = 0;
        let mut types = self.with(|unit| {
            number = unit;
            BtfUnit::new(Arc::clone(&btf), unit, self.pointer_bytes())
        });
        types.kernel_btf = Some((btf, number));
        types
    }

    /// A snapshot with a module's BTF: split BTF on the kernel's as the kernel holds it, or on the distilled base that
    /// its file brings along.
    ///
    /// # Errors
    /// [`BtfError::NoBase`] when neither base is there, or what [`Btf::parse`] says.
    pub fn with_module_btf(
        &self,
        module: &str,
        data: Blob,
        distilled: Option<Blob>,
    ) -> Result<Self, BtfError> {
        let name: Arc<str> = module.into();
        let (types, base, base_unit) = match distilled {
            Some(distilled) => {
                let base = Arc::new(Btf::parse_distilled_base(distilled)?);
                let mut number = 0;
                let types = self.with(|unit| {
                    number = unit;
                    BtfUnit::new(Arc::clone(&base), unit, self.pointer_bytes()).of_module(&name, None)
                });
                (types, base, number)
            }
            None => {
                let (base, number) = self.kernel_btf.clone().ok_or(BtfError::NoBase)?;
                (self.clone(), base, number)
            }
        };
        let btf = Arc::new(Btf::parse_split(data, &base)?);
        Ok(types.with(|unit| BtfUnit::new(btf, unit, self.pointer_bytes()).of_module(&name, Some(base_unit))))
    }
}
