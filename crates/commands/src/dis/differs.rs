//! Whether the dump's code is that of the vmlinux.

use kdive_arch::x86_64::disassemble::Instruction;
use kdive_base::VirtAddr;
use kdive_linux::text::Original;
use kdive_target::Kernel;

use crate::cx::Cx;
use crate::render::hex_bytes;
use crate::settings::Radix;
use crate::sym;

/// Notes where instructions of the kernel differ from the vmlinux given, apart from what the kernel patches itself.
pub(super) fn check(cx: &mut Cx, code: &[Instruction]) {
    let Some(first) = code.first() else { return };
    let kernel = cx.kernel.clone();
    if kernel.vmlinux().is_none() || kernel.modules().at(first.address).is_some() {
        return;
    }
    if is_freed(&kernel, first.address) {
        let why = "its memory was freed after boot: what is shown may be no code any more";
        cx.gaps.note("code of initialisation", why, Some(first.address.to_string()));
        return;
    }
    let Some(original) = Original::of(&kernel) else { return };
    for found in code {
        let Some(was) = original.bytes(found.address, found.bytes.len()) else { continue };
        if !original.changes(found.address, &found.bytes, was).is_empty() {
            let name = sym::name(&kernel, found.address, Radix::Decimal);
            let place = name.unwrap_or_else(|| found.address.to_string());
            let why = format!("the dump has {}, the vmlinux {}", hex_bytes(&found.bytes), hex_bytes(was));
            cx.gaps.note(
                "code that differs from the vmlinux's and is no place that the kernel patches",
                why,
                Some(place),
            );
        }
    }
}

/// Whether code is only there until the kernel has booted.
fn is_freed(kernel: &Kernel, at: VirtAddr) -> bool {
    let bounds = (kernel.symbol("__init_begin"), kernel.symbol("__init_end"));
    matches!(bounds, (Ok(begin), Ok(end)) if begin <= at && at < end)
}
