//! AT&T syntax, as binutils and with it gdb and crash write it.

use iced_x86::{Formatter as _, GasFormatter, Register};

use super::{Piece, Pieces, Spelling};

pub(super) fn formatter() -> GasFormatter {
    let mut gas = GasFormatter::new();
    let options = gas.options_mut();
    options.set_uppercase_hex(false);
    options.set_small_hex_numbers_in_decimal(false);
    options.set_branch_leading_zeros(false);
    options.set_displacement_leading_zeros(false);
    options.set_always_show_scale(true);
    options.set_rip_relative_addresses(true);
    options.set_show_branch_size(false);
    options.set_show_useless_prefixes(true);
    options.set_space_after_operand_separator(false);
    gas
}

pub(super) fn prepare(gas: &mut GasFormatter, decoded: &iced_x86::Instruction) {
    let options = gas.options_mut();
    // A displacement of zero that is encoded is shown; a scale only where there is something to scale.
    options.set_show_zero_displacements(decoded.memory_displ_size() != 0);
    options.set_always_show_scale(decoded.memory_index() != Register::None);
    // crash's gdb names the segments that string instructions use; newer binutils do not.
    options.set_always_show_segment_register(decoded.is_string_instruction());
}

pub(super) fn finish(spelling: &Spelling<'_>, output: &mut Pieces) {
    let name = output.mnemonic.rsplit(' ').next().unwrap_or_default().to_owned();
    plain_name(&name, output);
    spelling.prefixes("%", output);
    match &mut *output.operands {
        // What the assembler lets people leave out, the disassembler says.
        [] if X87_POPS.contains(&&*name) => output.put("%st,%st(1)"),
        [Piece::Text(text)] => {
            *text = text.replace("%dx", if is_port(&name) { "(%dx)" } else { "%dx" });
            if spelling.shifts_by_one()
                && let Some(rest) = text.strip_prefix("$0x1,")
            {
                *text = format!("$1,{rest}");
            }
            if spelling.multiplies_in_place()
                && let Some((_, register)) = text.rsplit_once(',')
            {
                *text = format!("{text},{register}");
            }
        }
        _ => {}
    }
}

const X87_POPS: [&str; 6] = ["faddp", "fdivp", "fdivrp", "fmulp", "fsubp", "fsubrp"];

/// Instructions that are as wide as the processor's mode without being asked do not say so.
fn plain_name(name: &str, output: &mut Pieces) {
    if matches!(name, "callq" | "jmpq" | "retq" | "pushq" | "popq" | "leaveq" | "enterq" | "pushfq" | "popfq")
    {
        output.mnemonic.pop();
    }
    // No 64-bit code has these names.
    if matches!(name, "calll" | "jmpl" | "retl" | "pushl" | "popl" | "leavel" | "enterl" | "pushfl" | "popfl")
    {
        output.mnemonic.pop();
    }
}

fn is_port(name: &str) -> bool {
    matches!(name, "in" | "out" | "insb" | "insw" | "insl" | "outsb" | "outsw" | "outsl")
}
