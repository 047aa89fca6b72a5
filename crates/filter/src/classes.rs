//! What each frame is used for, from the page structures in the dump.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use kdive_base::Pfn;
use kdive_linux::pages::{Excludable, ExclusionRules, Judgement, PageArray};
use kdive_target::{Field, Kernel};

/// Tells which frames a dump can do without, and why.
pub struct Classes {
    kernel: Arc<Kernel>,
    array: Arc<PageArray>,
    rules: Arc<ExclusionRules>,
    /// Frames whose structures are not in the dump, by the first frame asked for: the same question can come twice.
    unknown: Mutex<BTreeMap<u64, u64>>,
}

/// Page structures that are read together: 256 KiB, a power of two, so that the second structure of a compound page lies
/// with the first.
const PIECE: u64 = 1 << 12;

impl Classes {
    /// Finds the page structures, and how this kernel marks pages.
    ///
    /// # Errors
    /// What the dump or its kernel lacks for that.
    pub fn find(kernel: &Arc<Kernel>) -> Field<Self> {
        let (array, rules) = (PageArray::find(kernel)?, ExclusionRules::of(kernel)?);
        Ok(Self { kernel: kernel.clone(), array, rules, unknown: Mutex::default() })
    }

    /// Names the frames of `frames` that a dump can do without, each class with the range that it holds for. Ranges ascend
    /// and can reach beyond the last frame asked for. `frames` begins and ends at a whole GiB.
    pub fn each(&self, frames: &Range<Pfn>, mut see: impl FnMut(Range<u64>, Excludable)) {
        self.each_page(frames, |run, class, _| {
            if let Some(class) = class {
                see(run, class);
            }
        });
    }

    /// As [`Classes::each`], of every page: the frames that share its fate, why a dump can do without them if it can, and
    /// the page's structure with what follows it.
    pub fn each_page(&self, frames: &Range<Pfn>, mut see: impl FnMut(Range<u64>, Option<Excludable>, &[u8])) {
        let mut unknown = 0;
        let mut judged = Pfn(0);
        for part in self.array.ranges() {
            let mut start = part.start.max(frames.start).0;
            let end = part.end.min(frames.end).0;
            while start < end {
                let piece = Pfn(start)..Pfn((start / PIECE + 1).saturating_mul(PIECE).min(end));
                start = piece.end.0;
                let chunk = self.array.read(&self.kernel, &piece);
                for (first, bytes) in chunk.runs() {
                    self.judge(first, bytes, &mut judged, &mut see);
                }
                unknown += chunk.missing.iter().map(|(frames, _)| frames.end.0 - frames.start.0).sum::<u64>();
            }
        }
        self.unknown.lock().unwrap_or_else(PoisonError::into_inner).insert(frames.start.0, unknown);
    }

    /// Judges frames whose structures follow one another in `bytes`, from the first that is not judged yet.
    fn judge(
        &self,
        first: Pfn,
        bytes: &[u8],
        judged: &mut Pfn,
        see: &mut impl FnMut(Range<u64>, Option<Excludable>, &[u8]),
    ) {
        let size = self.rules.page_bytes();
        let end = first.0.saturating_add((bytes.len() / size) as u64);
        let mut pfn = first.0.max(judged.0);
        while pfn < end {
            let at = (pfn - first.0) as usize * size;
            let page = bytes.get(at..).unwrap_or_default();
            let Judgement { class, frames } = self.rules.judge(page);
            let next = pfn.saturating_add(frames);
            see(pfn..next, class, page);
            pfn = next;
        }
        *judged = Pfn(pfn);
    }

    /// Frames, among those asked for, whose page structures are not in the dump. They are kept.
    #[must_use]
    pub fn unknown(&self) -> u64 {
        self.unknown.lock().unwrap_or_else(PoisonError::into_inner).values().sum()
    }
}
