//! Call frame information (6.4): the registers that a caller had, out of `.debug_frame`.

use gimli::{
    BaseAddresses, CfaRule, CieOrFde, DebugFrame, DebugFrameOffset, RegisterRule, SectionId, UnwindContext,
    UnwindSection as _,
};
use kdive_base::VirtAddr;

use super::DwarfFile;
use super::locals::FrameState;
use super::sections::Slice;

/// The state of a frame's caller.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CallerState {
    /// The canonical frame address of the frame itself: the caller's stack pointer behind the call.
    pub cfa: VirtAddr,
    /// Registers of the caller that could be recovered, by their DWARF numbers.
    pub registers: Vec<(u16, u64)>,
}

/// Code that one description is of: addresses of the file, and the description's offset.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Described {
    start: u64,
    end: u64,
    at: usize,
}

impl DwarfFile {
    /// The registers that the caller of a frame had, where `address` is the frame's instruction (see
    /// [`DwarfFile::line`]). `preserved` are the registers that functions leave as they were unless they say otherwise.
    /// `None` where no description covers the code, as in much assembly.
    #[must_use]
    pub fn caller(
        &self,
        address: VirtAddr,
        state: &dyn FrameState,
        preserved: &[u16],
    ) -> Option<CallerState> {
        let linked = self.sections.linked(address);
        let frames = self.frame_section();
        let described = find(self.described(), linked)?;
        let bases = BaseAddresses::default();
        let fde = frames
            .fde_from_offset(&bases, DebugFrameOffset(described.at), DebugFrame::cie_from_offset)
            .ok()?;
        let mut context = UnwindContext::new();
        let row = fde.unwind_info_for_address(&frames, &bases, &mut context, linked).ok()?;
        let cfa = match *row.cfa() {
            CfaRule::RegisterAndOffset { register, offset } => {
                VirtAddr(state.register(register.0)?.wrapping_add_signed(offset))
            }
            CfaRule::Expression(_) => return None,
        };
        let saved = |at: VirtAddr| state.memory().pointer(at).ok().map(|value| value.0);
        let mut registers: Vec<(u16, u64)> = Vec::new();
        for (register, rule) in row.registers() {
            let value = match *rule {
                RegisterRule::SameValue => state.register(register.0),
                RegisterRule::Offset(offset) => saved(cfa.offset(offset)),
                RegisterRule::ValOffset(offset) => Some(cfa.offset(offset).0),
                RegisterRule::Register(other) => state.register(other.0),
                RegisterRule::Constant(value) => Some(value),
                _ => None,
            };
            registers.extend(value.map(|value| (register.0, value)));
        }
        let told = |number: &u16| row.registers().any(|(register, _)| register.0 == *number);
        let kept = preserved.iter().filter(|number| !told(number));
        registers.extend(kept.filter_map(|&number| Some((number, state.register(number)?))));
        Some(CallerState { cfa, registers })
    }

    fn frame_section(&self) -> DebugFrame<Slice<'_>> {
        let mut frames = DebugFrame::from(self.sections.slice(SectionId::DebugFrame));
        frames.set_address_size(self.sections.address_size());
        frames
    }

    fn described(&self) -> &[Described] {
        self.described.get_or_init(|| {
            let (frames, bases) = (self.frame_section(), BaseAddresses::default());
            let mut entries = frames.entries(&bases);
            let mut all = Vec::new();
            while let Ok(Some(entry)) = entries.next() {
                let CieOrFde::Fde(partial) = entry else { continue };
                let Ok(fde) = partial.parse(DebugFrame::cie_from_offset) else { continue };
                let start = fde.initial_address();
                if let Some(end) = start.checked_add(fde.len()).filter(|&end| start < end) {
                    all.push(Described { start, end, at: fde.offset() });
                }
            }
            all.sort_unstable();
            all
        })
    }
}

fn find(all: &[Described], address: u64) -> Option<&Described> {
    /// Descriptions do not overlap but for damage.
    const NEIGHBOURS: usize = 16;
    let end = all.partition_point(|described| described.start <= address);
    all.get(..end)?.iter().rev().take(NEIGHBOURS).find(|described| address < described.end)
}
