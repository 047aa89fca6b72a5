//! Where execution goes from an instruction.

use iced_x86::{Code, FlowControl, OpKind};
use kdive_base::VirtAddr;

/// Where execution goes from an instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// To the next one.
    Next,
    /// Into a function and back; `None` where a register or memory tells which.
    Call(Option<VirtAddr>),
    /// Elsewhere, always.
    Jump(Option<VirtAddr>),
    /// Elsewhere or to the next one.
    Branch(VirtAddr),
    /// Back to the caller, or out of an exception or system call.
    Return,
    /// Into an exception on purpose: `ud2`, `int3`, `int`.
    Trap,
    /// These bytes are no instruction.
    Invalid,
}

impl Flow {
    pub(super) fn of(decoded: &iced_x86::Instruction) -> Self {
        let near = || VirtAddr(decoded.near_branch_target());
        match decoded.flow_control() {
            _ if matches!(decoded.code(), Code::Ud2 | Code::Int3) => Self::Trap,
            FlowControl::Next | FlowControl::XbeginXabortXend => Self::Next,
            FlowControl::UnconditionalBranch => Self::Jump(Some(near())),
            FlowControl::IndirectBranch => Self::Jump(None),
            FlowControl::ConditionalBranch => Self::Branch(near()),
            FlowControl::Return => Self::Return,
            FlowControl::Call
                if matches!(decoded.op0_kind(), OpKind::NearBranch64 | OpKind::NearBranch32) =>
            {
                Self::Call(Some(near()))
            }
            FlowControl::Call | FlowControl::IndirectCall => Self::Call(None),
            FlowControl::Interrupt => Self::Trap,
            FlowControl::Exception => Self::Trap,
        }
    }
}
