//! Intel syntax, as gdb writes it after `set disassembly-flavor intel`.

use iced_x86::{Formatter as _, IntelFormatter, MemorySizeOptions, Register};

use super::{Piece, Pieces, Spelling};

pub(super) fn formatter() -> IntelFormatter {
    let mut intel = IntelFormatter::new();
    let options = intel.options_mut();
    options.set_uppercase_hex(false);
    options.set_uppercase_keywords(true);
    options.set_hex_prefix("0x");
    options.set_hex_suffix("");
    options.set_small_hex_numbers_in_decimal(false);
    options.set_add_leading_zero_to_hex_numbers(false);
    options.set_branch_leading_zeros(false);
    options.set_displacement_leading_zeros(false);
    options.set_always_show_scale(true);
    options.set_rip_relative_addresses(true);
    options.set_show_branch_size(false);
    options.set_show_useless_prefixes(true);
    options.set_memory_size_options(MemorySizeOptions::Always);
    options.set_space_after_operand_separator(false);
    intel
}

pub(super) fn prepare(intel: &mut IntelFormatter, decoded: &iced_x86::Instruction) {
    let options = intel.options_mut();
    options.set_show_zero_displacements(decoded.memory_displ_size() != 0);
    options.set_always_show_scale(decoded.memory_index() != Register::None);
    options.set_signed_memory_displacements(!decoded.is_ip_rel_memory_operand());
}

pub(super) fn finish(spelling: &Spelling<'_>, output: &mut Pieces) {
    spelling.prefixes("", output);
    name(spelling, output);
    let [Piece::Text(text)] = &mut *output.operands else { return };
    if spelling.has_absolute_address() {
        *text = text.replace(['[', ']'], "");
    }
    if spelling.shifts_by_one()
        && let Some(rest) = text.strip_suffix(",0x1")
    {
        *text = format!("{rest},1");
    }
    if spelling.multiplies_in_place()
        && let Some((register, _)) = text.split_once(',')
    {
        *text = format!("{register},{text}");
    }
}

/// Names that binutils spells shorter or longer, with the operand that it names.
fn name(spelling: &Spelling<'_>, output: &mut Pieces) {
    let name = output.mnemonic.rsplit(' ').next().unwrap_or_default();
    let prefixes = output.mnemonic.len().saturating_sub(name.len());
    let (short, more) = match name {
        "mov" if spelling.moves_wide() => ("movabs", ""),
        "movsq" => ("movs", ""),
        "pushfq" => ("pushf", ""),
        "popfq" => ("popf", ""),
        "stosb" => ("stos", ",al"),
        "stosw" => ("stos", ",ax"),
        "stosd" => ("stos", ",eax"),
        "stosq" => ("stos", ",rax"),
        _ => return,
    };
    output.mnemonic.truncate(prefixes);
    output.mnemonic.push_str(short);
    output.put(more);
}
