//! The values of local variables, as text.

use kdive_debuginfo::Type;
use kdive_debuginfo::dwarf::{Piece, Storage};

use super::{Local, Locals};
use crate::kernel::Kernel;
use crate::lacks::{Field, Lacks};
use crate::show::Style;

/// More than any variable on a stack that one line could show.
const MOST_BYTES: u64 = 4096;

impl Kernel {
    /// A variable's value as C writes it: see [`Kernel::show`]. `None` where the compiler kept no value at this place.
    ///
    /// # Errors
    /// Why a value that exists cannot be told.
    pub fn show_local(&self, locals: &Locals, local: &Local, style: &Style) -> Field<Option<String>> {
        let types = &locals.types;
        let unsized_type = || Lacks::Type(types.name_of(local.of).as_str().into());
        let wanted = types.size_of(local.of).ok_or_else(unsized_type)?;
        if wanted > MOST_BYTES && !matches!(types.stripped(local.of).as_deref(), Some(Type::Int { .. })) {
            return Ok(Some("{...}".to_owned()));
        }
        let bytes = self.bytes_of(&local.storage, wanted as usize)?;
        Ok(bytes.map(|bytes| self.show(types, local.of, &bytes, style)))
    }

    fn bytes_of(&self, storage: &Storage, wanted: usize) -> Field<Option<Vec<u8>>> {
        match storage {
            Storage::Memory(at) => Ok(Some(self.memory().bytes(*at, wanted)?)),
            // Registers of x86-64 have the value's first byte first.
            Storage::Bytes(bytes) => Ok(Some(bytes.get(..wanted).unwrap_or(bytes).to_vec())),
            Storage::OptimizedOut => Ok(None),
            Storage::Unknown(why) => Err(Lacks::unavailable(why)),
            Storage::Pieces(pieces) => self.joined(pieces, wanted),
        }
    }

    /// A value that lies in several places. Where one part is gone, so is the value: half of it would mislead.
    fn joined(&self, pieces: &[Piece], wanted: usize) -> Field<Option<Vec<u8>>> {
        let mut joined = Vec::with_capacity(wanted);
        for piece in pieces {
            let left = wanted.saturating_sub(joined.len());
            let bytes = usize::try_from(piece.bits / 8).unwrap_or(usize::MAX).min(left);
            if !piece.bits.is_multiple_of(8) {
                return Err(Lacks::unavailable("parts of it begin inside a byte"));
            }
            let part = match &piece.storage {
                Storage::Pieces(_) => None,
                storage => self.bytes_of(storage, bytes)?,
            };
            match part.filter(|part| part.len() == bytes) {
                Some(part) => joined.extend(part),
                None => return Ok(None),
            }
        }
        Ok(Some(joined))
    }
}
