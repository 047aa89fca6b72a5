use std::io::Write as _;
use std::sync::Arc;

use base64::Engine as _;
use kdive_base::ReadAt;
use proptest::prelude::*;

use super::*;
use crate::formats::{Peeled, Source};
use crate::{OpenError, packed};

/// `seq 1 40`, written by `age` 1.1.1 for an SSH key and two native ones, of which [`KEY`] is the second.
const REAL: &str = "\
YWdlLWVuY3J5cHRpb24ub3JnL3YxCi0+IFgyNTUxOSBoTEQxemsvVVYrRWl6d0wwT0xlUlZyeURFcElQdTJxa2ZzNXN6U090ekRn\
CnRlb1RQU3RoNUlQWE9QMG5qVENoZlFwUXlvSnpvTmZPYXM2SnVFM3hTdjgKLT4gWDI1NTE5IHlRZzlGdjk4azYwTVVBQ0FZazdI\
OENBd3ZhdmFvbXlYdjRpbm9lYmJnd0EKdGpydktuZFpIdWQwdkZ0RFpxbnpYdlJRcVBrc2pMVFgzRXJsR3FUVHl2MAotPiBzc2gt\
ZWQyNTUxOSB3cmxNb0EgSlRPbW1JcjYzeFg5QlBpUmJHTVRvUlNESU9jN2toRUxkNGhZbGJyekN3dwpyd3NBTktGZ3FkYkJ4ZnFs\
TVlRZ3lBSEEzcTgyalNYZ1ZGR2x6QzFPKzBrCi0tLSBhcHIrN3haL2VVbHVyVWE1ZkF1UENHWHFUSW5xcTU1bTdOK0lPZjFpeFVF\
Cqm3Je0M3I7MS3xn4r8pOGtlQz5qui2vYOcMCZcsKlc3ONb54tXmWJrEaV9vEdXzAuRhaW7P0wbHYikpIkaM1THqhCJunFuMfSai\
NbHayNLhZeTQ6/D/Bb1/5U/BHCr/fiW5XfTP0L6kt2sLlY+hmX2bWOdezVVGtBxiJrpZ/iNYPRAoq4n3PVCADWkBXZp4";
const KEY: &str = "AGE-SECRET-KEY-1RF4J3TNCRVU7UNNG2TGMWDP5UP5CJ4HPHHTGSP8RTXHPV9MWP2LQNUV76E";
const PUBLIC: &str = "age12vdlwgnxl0ff86te0y0jep5exh6ag20k54gv0qyu3v6elntufczqd4y683";

fn real() -> Vec<u8> {
    base64::engine::general_purpose::STANDARD.decode(REAL).unwrap()
}

fn peel(file: Vec<u8>, identities: &[Identity]) -> Result<Peeled, OpenError> {
    let source = Source::new("f".into(), Arc::new(file), identities.into());
    (packed::age::WRAPPER.peel)(&source)
}

fn sealed(plain: &[u8], recipients: &[Recipient]) -> Vec<u8> {
    let mut out = Encryptor::new(Vec::new(), recipients).unwrap();
    out.write_all(plain).unwrap();
    out.finish().unwrap()
}

fn all_of(data: &dyn ReadAt) -> std::io::Result<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(data.len()).unwrap()];
    let count = data.read_full_at(0, &mut bytes)?;
    bytes.truncate(count);
    Ok(bytes)
}

fn numbers(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|index| (index / 7 % 251) as u8).collect()
}

#[test]
fn what_age_wrote_opens() {
    let identities = [Identity::generate().unwrap(), Identity::parse(KEY).unwrap()];
    let opened = peel(real(), &identities).unwrap();
    let expected: String = (1..=40).map(|number| format!("{number}\n")).collect();
    assert_eq!(all_of(&*opened.data).unwrap(), expected.as_bytes());
    assert_eq!(opened.told.encryption.unwrap().recipients, 3);
    assert_eq!(opened.warning, None);
}

#[test]
fn keys_are_written_as_they_are_read() {
    let identity = Identity::parse(KEY).unwrap();
    assert_eq!(identity.recipient().to_string(), PUBLIC);
    assert_eq!(identity.secret_text(), KEY);
    assert_eq!(Recipient::parse(PUBLIC).unwrap(), identity.recipient());
    let file = format!("# created: today\n\n{PUBLIC}\n  {PUBLIC}\n");
    assert_eq!(Recipient::parse_file(&file).unwrap().len(), 2);
}

#[test]
fn a_key_that_is_none_is_told_why() {
    assert_eq!(Recipient::parse(KEY), Err(KeyError::Secret));
    assert!(matches!(Identity::parse(PUBLIC), Err(KeyError::Public)));
    assert!(matches!(Recipient::parse("ssh-ed25519 AAAA"), Err(KeyError::Unsupported(_))));
    assert!(matches!(Recipient::parse(&PUBLIC.replace('2', "3")), Err(KeyError::Malformed(..))));
    let wrong = KEY.replace("RF4J", "RF4K");
    let told = Identity::parse(&wrong).unwrap_err().to_string();
    assert!(!told.contains("RF4K"), "a secret does not go into a message: {told}");
    assert!(matches!(Identity::parse_file(&format!("\n{wrong}")), Err(KeyError::Line { line: 2, .. })));
    assert!(matches!(Identity::parse_file("# nothing"), Err(KeyError::Empty)));
}

#[test]
fn who_has_no_key_is_told_what_to_do() {
    let (mine, other) = (Identity::generate().unwrap(), Identity::generate().unwrap());
    let file = sealed(b"secret", &[mine.recipient()]);
    assert!(matches!(peel(file.clone(), &[]), Err(OpenError::NoIdentity { recipients: 1, .. })));
    assert!(matches!(peel(file, &[other]), Err(OpenError::WrongIdentity { recipients: 1, given: 1, .. })));
    let stanza = |kind: &str| {
        let text = format!("age-encryption.org/v1\n-> {kind} x 18\nAAAA\n--- AAAA\n0123456789abcdef");
        peel(text.into_bytes(), std::slice::from_ref(&mine))
    };
    assert!(matches!(stanza("scrypt"), Err(OpenError::Passphrase { .. })));
    assert!(matches!(stanza("ssh-rsa"), Err(OpenError::ForeignRecipients { .. })));
}

#[test]
fn a_changed_header_is_refused() {
    let identity = Identity::parse(KEY).unwrap();
    let file = String::from_utf8_lossy(&real()).find("ssh-ed25519").unwrap();
    let mut changed = real();
    changed[file] ^= 1;
    assert!(matches!(peel(changed, &[identity]), Err(OpenError::Damaged { .. })));
}

#[test]
fn a_cut_file_opens_up_to_the_cut_and_says_so() {
    let identity = Identity::generate().unwrap();
    let plain = numbers(3 * CHUNK + 100);
    let file = sealed(&plain, &[identity.recipient()]);
    let header = file.len() - 3 * SEALED_CHUNK - 116;
    for (keep, chunks) in
        [(3 * SEALED_CHUNK, 3), (3 * SEALED_CHUNK - 1, 2), (2 * SEALED_CHUNK + 20, 2), (SEALED_CHUNK, 1)]
    {
        let cut = peel(file[..header + keep].to_vec(), std::slice::from_ref(&identity)).unwrap();
        assert!(cut.warning.unwrap().starts_with("truncated"), "{keep}");
        assert_eq!(all_of(&*cut.data).unwrap(), plain[..chunks * CHUNK], "{keep}");
    }
    for keep in [10, 100, header - 17, header, header + 10, header + SEALED_CHUNK - 1] {
        let refused = peel(file[..keep].to_vec(), std::slice::from_ref(&identity));
        assert!(matches!(refused, Err(OpenError::Truncated { .. } | OpenError::Damaged { .. })), "{keep}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn what_is_sealed_opens_at_any_place(bytes in 1_usize..4 * CHUNK, at in 0_usize..4 * CHUNK, count in 1_usize..100_000) {
        let keys: Vec<Identity> = (0..3).map(|_| Identity::generate().unwrap()).collect();
        let recipients: Vec<Recipient> = keys.iter().map(Identity::recipient).collect();
        let plain = numbers(bytes);
        let opened = peel(sealed(&plain, &recipients), &keys[2..]).unwrap();
        prop_assert_eq!(opened.data.len(), bytes as u64);
        let mut into = vec![0; count];
        let read = opened.data.read_full_at(at as u64, &mut into).unwrap();
        let start = at.min(bytes);
        prop_assert_eq!(&into[..read], &plain[start..(start + count).min(bytes)]);
    }

    #[test]
    fn no_flipped_bit_gets_through(place in any::<prop::sample::Index>(), bit in 0_u8..8) {
        let identity = Identity::generate().unwrap();
        let plain = numbers(2 * CHUNK + 50);
        let mut file = sealed(&plain, &[identity.recipient()]);
        let at = place.index(file.len());
        file[at] ^= 1 << bit;
        // Refused, or cut before the damage, or an error where the damage is: never other bytes.
        if let Ok(opened) = peel(file, &[identity]) {
            let whole = opened.warning.is_none();
            match all_of(&*opened.data) {
                Ok(read) => prop_assert!(!whole && plain.starts_with(&read)),
                Err(error) => prop_assert_eq!(error.kind(), std::io::ErrorKind::InvalidData),
            }
        }
    }
}
