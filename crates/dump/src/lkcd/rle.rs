//! LKCD's run-length encoding: a byte that is not 0 is itself; after 0 comes a count, and, if that is not 0 as well, the
//! byte that comes so many times. Two zeros are one zero.

use kdive_base::Why;

/// Decodes one page. It must fill `page` to the last byte and no more.
pub(super) fn decode(packed: &[u8], page: &mut [u8]) -> Result<(), Why> {
    fill(packed, page).ok_or(Why::Corrupt("run-length encoding"))
}

fn fill(packed: &[u8], page: &mut [u8]) -> Option<()> {
    let mut packed = packed.iter().copied();
    let mut rest = page;
    while let Some(byte) = packed.next() {
        let (byte, count) = match byte {
            0 => match packed.next()? {
                0 => (0, 1),
                count => (packed.next()?, usize::from(count)),
            },
            byte => (byte, 1),
        };
        let (run, after) = rest.split_at_mut_checked(count)?;
        run.fill(byte);
        rest = after;
    }
    rest.is_empty().then_some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_and_zeros_are_told_apart() {
        let mut page = [0xaa; 8];
        assert_eq!(decode(&[7, 0, 0, 0, 5, 9, 1], &mut page), Ok(()));
        assert_eq!(page, [7, 0, 9, 9, 9, 9, 9, 1]);
    }

    #[test]
    fn a_page_is_filled_exactly() {
        let wrong = Err(Why::Corrupt("run-length encoding"));
        let mut page = [0; 4];
        for packed in [&[1, 2, 3][..], &[0, 5, 1], &[1, 2, 3, 4, 5], &[0, 4], &[1, 2, 3, 0], &[]] {
            assert_eq!(decode(packed, &mut page), wrong, "{packed:?}");
        }
    }
}
