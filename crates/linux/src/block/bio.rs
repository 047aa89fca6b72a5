//! Pieces of I/O (`struct bio`, include/linux/blk_types.h): what is to be done, and for whom.

use kdive_base::VirtAddr;
use kdive_target::walk;
use kdive_target::{Field, Kernel, Lacks, Load};

use crate::time;

/// The part of `struct bio` that kdive understands.
#[derive(Clone, Debug, Load)]
#[load(type = "bio")]
pub struct Bio {
    /// Its address.
    #[load(address)]
    pub at: VirtAddr,
    /// Operation and flags (`REQ_OP_*`, `REQ_*`).
    #[load(any("bi_opf", "bi_rw"))]
    pub operation: Field<u32>,
    /// Where it goes on, in sectors of 512 bytes of its device.
    #[load(any("bi_iter.bi_sector", "bi_sector"))]
    pub sector: Field<u64>,
    /// Bytes that are left to be done.
    #[load(any("bi_iter.bi_size", "bi_size"))]
    pub bytes: Field<u32>,
    /// The device (`struct block_device`; 5.10 has the disk: `struct gendisk`).
    #[load(any("bi_bdev", "bi_disk"))]
    pub device: Field<VirtAddr>,
    /// What is called when it is done.
    #[load(any("bi_end_io"))]
    pub end_io: Field<VirtAddr>,
    /// What that is told.
    #[load(any("bi_private"))]
    pub private: Field<VirtAddr>,
    /// When it was submitted, by the monotonic clock in nanoseconds, in its low 51 bits; 0 where nobody noted it.
    #[load(any("issue_time_ns", "bi_issue.value"))]
    issued: Field<u64>,
    #[load(any("bi_io_vec"))]
    vectors: Field<VirtAddr>,
    #[load(any("bi_vcnt"))]
    vector_count: Field<u16>,
}

#[derive(Load)]
#[load(type = "bio_vec")]
struct Vector {
    bv_page: Field<VirtAddr>,
}

/// `BIO_ISSUE_TIME_MASK`, include/linux/blk_types.h.
const ISSUE_TIME: u64 = (1 << 51) - 1;
/// `BIO_MAX_VECS`.
const MOST_VECTORS: u16 = 256;

/// What a request or a bio does, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    /// `read`, `write`, `flush`, `discard`, `write-zeroes`...: the kernel's word behind `REQ_OP_`.
    pub name: String,
    /// Flags that are set, without `REQ_`: `SYNC`, `META`, `FUA`...
    pub flags: Vec<String>,
    /// Whether data goes to the device (`op_is_write`).
    pub is_write: bool,
}

/// The kernel's names of operations and their flags.
pub(super) struct Operations {
    names: Vec<(u32, String)>,
    flags: Vec<(u32, String)>,
}

/// `REQ_OP_MASK`: the operation; the flags are above.
const OPERATION: u32 = 0xff;

impl Operations {
    pub(super) fn of(kernel: &Kernel) -> &Self {
        kernel.once(Self::find)
    }

    fn find(kernel: &Kernel) -> Self {
        let values = |kind: &[&str], prefix: &str| -> Vec<(u32, String)> {
            let found = kind.iter().find_map(|name| kernel.enumerators(name).ok()).unwrap_or_default();
            let named = found.into_iter().filter_map(|(name, value)| {
                Some((u32::try_from(value).ok()?, name.strip_prefix(prefix)?.to_owned()))
            });
            named.collect()
        };
        let words = |name: String| name.to_lowercase().replace('_', "-");
        let names = values(&["req_op", "req_opf"], "REQ_OP_");
        Self {
            names: names
                .into_iter()
                .filter(|(_, name)| name != "LAST")
                .map(|(value, name)| (value, words(name)))
                .collect(),
            flags: values(&["req_flag_bits"], "__REQ_"),
        }
    }

    pub(super) fn decode(&self, flags: u32) -> Operation {
        let operation = flags & OPERATION;
        let name = self.names.iter().find(|(value, _)| *value == operation);
        let name = match (name, operation) {
            (Some((_, name)), _) => name.clone(),
            (None, 0) => "read".to_owned(),
            (None, 1) => "write".to_owned(),
            (None, other) => format!("op-{other}"),
        };
        let set =
            |bit: u32| bit >= OPERATION.count_ones() && flags.checked_shr(bit).is_some_and(|of| of & 1 != 0);
        let flags = self.flags.iter().filter(|(bit, _)| set(*bit)).map(|(_, name)| name.clone()).collect();
        Operation { name, flags, is_write: operation & 1 != 0 }
    }
}

impl Bio {
    /// What it does.
    ///
    /// # Errors
    /// The bio cannot be read.
    pub fn operation(&self, kernel: &Kernel) -> Field<Operation> {
        Ok(Operations::of(kernel).decode(self.operation.clone()?))
    }

    /// The function that is called when it is done, by name.
    #[must_use]
    pub fn end_io_name(&self, kernel: &Kernel) -> Option<String> {
        let at = self.end_io.clone().ok().filter(|at| !at.is_null())?;
        time::function_name(kernel, at)
    }

    /// How long ago it was submitted, in nanoseconds, at `now` of the monotonic clock.
    #[must_use]
    pub fn age_ns(&self, now: u64) -> Option<u64> {
        let issued = self.issued.clone().ok()? & ISSUE_TIME;
        (issued != 0).then(|| age(now, issued))
    }

    /// The pages that it moves data to or from (`struct page`); none for a bio that borrows another's.
    #[must_use]
    pub fn pages(&self, kernel: &Kernel) -> Vec<VirtAddr> {
        let (Ok(first), Ok(count)) = (&self.vectors, &self.vector_count) else { return Vec::new() };
        let loader = kernel.loader::<Vector>();
        let Ok(size) = loader.size() else { return Vec::new() };
        let count = u64::from(*count.min(&MOST_VECTORS));
        let page = |index: u64| loader.load(first.add(index.wrapping_mul(size))).bv_page.ok();
        (0..count).map_while(page).filter(|page| !page.is_null()).collect()
    }
}

/// Nanoseconds since `issued`, of which the low 51 bits are known. What is a little later than the last tick is new.
fn age(now: u64, issued: u64) -> u64 {
    let age = now.wrapping_sub(issued) & ISSUE_TIME;
    if age > ISSUE_TIME / 2 { 0 } else { age }
}

/// The bios of a request or a list (`bi_next`), as far as they go.
///
/// # Errors
/// The kernel's types are not known.
pub fn chain(kernel: &Kernel, first: VirtAddr) -> Field<impl Iterator<Item = Field<Bio>> + '_> {
    let next = kernel.offset_of("bio", "bi_next")?;
    let loader = kernel.loader::<Bio>();
    Ok(walk::null_terminated(kernel.memory(), first, next)
        .map(move |at| at.map(|at| loader.load(at)).map_err(Lacks::from)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_of_the_low_bits() {
        assert_eq!(age(5_000, 2_000), 3_000);
        assert_eq!(age(2_000, 5_000), 0, "between the last tick and the crash");
        let now = (7 << 51) + 100;
        assert_eq!(age(now, ISSUE_TIME - 99), 200, "the stamp's upper bits are lost");
    }

    #[test]
    fn operations_have_the_kernels_names() {
        let names = [(0, "read"), (1, "write"), (9, "write-zeroes")];
        let flags = [(3, "LOW"), (8, "FAILFAST_DEV"), (11, "SYNC"), (40, "NOWHERE")];
        let owned =
            |list: &[(u32, &str)]| list.iter().map(|(bit, name)| (*bit, (*name).to_owned())).collect();
        let operations = Operations { names: owned(&names), flags: owned(&flags) };
        let found = operations.decode(1 | 1 << 11);
        assert_eq!(
            (found.name.as_str(), found.flags, found.is_write),
            ("write", vec!["SYNC".to_owned()], true)
        );
        assert_eq!(operations.decode(9).name, "write-zeroes");
        assert_eq!(operations.decode(34).name, "op-34");
        assert!(operations.decode(8).flags.is_empty(), "an operation is no flag");
    }
}
