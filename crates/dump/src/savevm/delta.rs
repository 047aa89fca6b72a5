//! XBZRLE, QEMU's code for what changed in a page (its docs/xbzrle.txt): in turn, how many bytes stay as they are, and how
//! many follow that are new. Both are numbers of seven bits a byte, the lowest first.

use kdive_base::Why;

/// Changes a page.
pub(super) fn apply(changes: &[u8], page: &mut [u8]) -> Result<(), Why> {
    change(changes, page).ok_or(Why::Corrupt("XBZRLE"))
}

fn change(mut changes: &[u8], page: &mut [u8]) -> Option<()> {
    let mut rest = page;
    while !changes.is_empty() {
        let same = number(&mut changes)?;
        let new = if changes.is_empty() { 0 } else { number(&mut changes)? };
        let (bytes, left) = changes.split_at_checked(new)?;
        changes = left;
        let (_, from_here) = rest.split_at_mut_checked(same)?;
        let (into, after) = from_here.split_at_mut_checked(new)?;
        into.copy_from_slice(bytes);
        rest = after;
    }
    Some(())
}

/// Two bytes at most: pages are small.
fn number(changes: &mut &[u8]) -> Option<usize> {
    let [first, rest @ ..] = *changes else { return None };
    if first & 0x80 == 0 {
        *changes = rest;
        return Some(usize::from(*first));
    }
    let [second, rest @ ..] = rest else { return None };
    *changes = rest;
    Some(usize::from(first & 0x7f) | usize::from(*second) << 7)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_change_between_those_that_stay() {
        let mut page = [1; 8];
        assert_eq!(apply(&[2, 2, 7, 8, 1, 1, 9], &mut page), Ok(()));
        assert_eq!(page, [1, 1, 7, 8, 1, 9, 1, 1]);
        let mut page = [1; 300];
        assert_eq!(apply(&[0x80 | 0x2a, 2, 1, 5], &mut page), Ok(()));
        assert_eq!((page[297], page[298], page[299]), (1, 5, 1));
    }

    #[test]
    fn nothing_changes_beyond_a_page() {
        for changes in [&[9, 0][..], &[7, 2, 1, 1], &[0, 2, 1], &[0x80], &[0, 9, 1, 2, 3, 4, 5, 6, 7, 8, 9]] {
            assert_eq!(apply(changes, &mut [0; 8]), Err(Why::Corrupt("XBZRLE")), "{changes:?}");
        }
    }
}
