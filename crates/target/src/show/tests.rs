use super::*;

fn shown(types: &Types, of: TypeId, bytes: &[u8], limits: Limits) -> String {
    let symbol = |at: VirtAddr| (at.0 == 0x1000).then(|| "panic".to_owned());
    Printer { types, symbol: &symbol, limits: &limits, endian: Endian::Little }.text(of, bytes)
}

#[test]
fn scalars_and_arrays_stand_as_in_c() {
    let types = Types::new(8);
    let int = types.int(4, true);
    let line = |of, bytes: &[u8]| shown(&types, of, bytes, Limits::LINE);
    assert_eq!(line(int, &(-5_i32).to_le_bytes()), "-5");
    assert_eq!(line(types.int(4, false), &u32::MAX.to_le_bytes()), "4294967295");
    assert_eq!(line(types.pointer_to(int), &0x1000_u64.to_le_bytes()), "0x1000 <panic>");
    assert_eq!(line(types.pointer_to(int), &[0; 8]), "0x0");
    assert_eq!(line(types.array_of(int, Some(3)), &[1, 0, 0, 0, 2, 0, 0, 0]), "{1, 2, ?}");
    assert_eq!(line(types.array_of(types.array_of(int, Some(2)), Some(1)), &[0; 8]), "{{...}}");
}

#[test]
fn text_is_bounded() {
    let types = Types::new(8);
    let limits = Limits { depth: 1, elements: usize::MAX, length: 8 };
    let huge = types.array_of(types.int(1, false), Some(u64::MAX));
    assert_eq!(shown(&types, huge, &[7; 64], limits), "{7, 7, 7...");
}

#[test]
fn bit_fields_are_cut_out_of_their_bytes() {
    assert_eq!(bits(&[0b1011_0100, 1], 2, 3), Some(0b101));
    assert_eq!(bits(&[0x80, 1], 7, 2), Some(3));
    assert_eq!(bits(&[0x80], 7, 2), None);
    assert_eq!(signed(3, 2), -1);
}
