//! ELF cores of Xen's guests.

use super::{Layout, PAGE, note};
use kdive_base::Endian;

/// Of a paravirtual guest, page tables and the like know pages by the machine's numbers.
pub fn build(pages: &[(u64, Vec<u8>)], is_paravirtual: bool) -> Vec<u8> {
    let (name, entry) = if is_paravirtual { (".xen_p2m", 16) } else { (".xen_pfn", 8) };
    let names = format!("\0.shstrtab\0.note.Xen\0.xen_prstatus\0{name}\0.xen_pages\0");
    let name_at = |name: &str| names.find(name).unwrap() as u64;
    let one = Endian::Little;
    let mut header = Layout::default();
    let magic = if is_paravirtual { 0xf00f_ebed } else { 0xf00f_ebee };
    header.int(0, 8, magic).int(8, 8, 1).int(16, 8, pages.len() as u64).int(24, 8, PAGE as u64);
    let mut version = Layout::default();
    version.int(0, 8, 4).int(8, 8, 17).put(16, &[0; 1256]);
    let mut notes = note(one, "Xen", 0x0200_0000, &[]);
    notes.extend(note(one, "Xen", 0x0200_0001, &header.bytes));
    notes.extend(note(one, "Xen", 0x0200_0002, &version.bytes));
    notes.extend(note(one, "Xen", 0x0200_0003, &1_u64.to_le_bytes()));
    let mut table = Layout::default();
    for (number, (pfn, _)) in pages.iter().enumerate() {
        table.int(entry * number, 8, *pfn);
        if is_paravirtual {
            table.int(entry * number + 8, 8, pfn + 0x1000);
        }
    }
    let status = vec![0; 5168];
    let body: Vec<u8> = pages.iter().flat_map(|(_, page)| page.clone()).collect();
    // Name, type, bytes of an entry, contents.
    let sections: [(&str, u64, usize, &[u8]); 5] = [
        (".shstrtab", 3, 0, names.as_bytes()),
        (".note.Xen", 7, 0, &notes),
        (".xen_prstatus", 1, 5168, &status),
        (name, 1, entry, &table.bytes),
        (".xen_pages", 1, PAGE, &body),
    ];
    let mut file = Layout::default();
    file.put(0, b"\x7fELF\x02\x01\x01").int(16, 2, 4).int(18, 2, 62).int(20, 4, 1).int(40, 8, 64);
    file.int(52, 2, 64).int(54, 2, 56).int(58, 2, 64).int(60, 2, 6).int(62, 2, 1);
    let mut at = 64_usize + 64 * 6;
    for (number, (name, kind, entry, bytes)) in sections.into_iter().enumerate() {
        let here = 64 * (number + 2);
        if name == ".xen_pages" {
            at = at.next_multiple_of(PAGE);
        }
        file.int(here, 4, name_at(name)).int(here + 4, 4, kind).int(here + 24, 8, at as u64);
        file.int(here + 32, 8, bytes.len() as u64).int(here + 48, 8, 8).int(here + 56, 8, entry as u64);
        file.put(at, bytes);
        at += bytes.len();
    }
    file.bytes
}
