//! Keys that the kernel keeps for processes and for itself (`struct key`, include/linux/key.h).

use kdive_base::VirtAddr;
use kdive_target::walk::{Order, RbLayout, rbtree};
use kdive_target::{Field, Kernel, Lacks, Load, MemberAddress};

use crate::slab::Slabs;

/// The part of `struct key` that kdive understands.
#[derive(Clone, Debug, Load)]
#[load(type = "key")]
pub struct Key {
    /// Address of the `struct key`.
    #[load(address)]
    pub at: VirtAddr,
    /// Its number, as `/proc/keys` shows it.
    pub serial: Field<u32>,
    /// Its `struct key_type`.
    #[load(any("type"))]
    pub kind: Field<VirtAddr>,
    /// Up to four pointers to what it holds (before 4.4, one).
    #[load(any("payload.data"))]
    pub payload: Field<MemberAddress>,
}

/// Bytes that should not leave the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Secret {
    /// First byte.
    pub at: VirtAddr,
    /// How many.
    pub bytes: u64,
    /// They are the secret itself, not the structure around it.
    pub exact: bool,
}

/// Kinds whose payload is no secret: lists of keys, public keys, hashes.
const OPEN_KINDS: [&[u8]; 4] = [b"keyring", b"asymmetric", b"blacklist", b".request_key_auth"];
/// Pointers of a payload.
const POINTERS: u64 = 4;

/// All keys of the kernel, and what broke the walk over them.
///
/// # Errors
/// The kernel keeps no keys, or their tree cannot be found.
pub fn all(kernel: &Kernel) -> Field<(Vec<Key>, Option<Lacks>)> {
    let root = kernel.memory().pointer(kernel.symbol("key_serial_tree")?)?;
    let node_in_key = kernel.offset_of("key", "serial_node")?;
    let keys = kernel.loader::<Key>();
    let mut found = Vec::new();
    for node in rbtree(kernel.memory(), RbLayout::find(kernel)?, root, Order::Sorted) {
        match node {
            Ok(node) => found.push(keys.load(node.at.sub(node_in_key))),
            Err(broken) => return Ok((found, Some(Lacks::from(broken)))),
        }
    }
    Ok((found, None))
}

impl Key {
    /// The name of its kind: `user`, `logon`, `keyring`...
    ///
    /// # Errors
    /// The name cannot be read.
    pub fn kind_name(&self, kernel: &Kernel) -> Field<Vec<u8>> {
        /// `/proc/keys` shows nine bytes of it.
        const LONGEST: usize = 32;
        let name = self.kind.clone()?.add(kernel.offset_of("key_type", "name")?);
        Ok(kernel.memory().c_string(kernel.memory().pointer(name)?, LONGEST)?)
    }

    /// Where its secrets are. Of a payload of bytes (`user`, `logon`), those bytes; of others, whole objects of memory that the
    /// payload points to.
    ///
    /// # Errors
    /// The payload cannot be read, or it cannot be told how large it is.
    pub fn secrets(&self, kernel: &Kernel) -> Field<Vec<Secret>> {
        let kind = self.kind_name(kernel)?;
        if OPEN_KINDS.contains(&&*kind) {
            return Ok(Vec::new());
        }
        let MemberAddress(payload) = self.payload.clone()?;
        let memory = kernel.memory();
        let first = memory.pointer(payload)?;
        if matches!(&*kind, b"user" | b"logon" | b"dns_resolver") {
            // A key that was only asked for has none yet; one that was revoked none any more.
            return if first.is_null() {
                Ok(Vec::new())
            } else {
                bytes_of(kernel, first).map(|secret| vec![secret])
            };
        }
        let mut secrets = Vec::new();
        for index in 0..POINTERS {
            let at = memory.pointer(payload.add(index.wrapping_mul(8)))?;
            secrets.extend(object_of(kernel, at)?);
            if &*kind == b"big_key"
                && let Ok(data) = kernel.offset_of("big_key_payload", "data")
                && index == 0
                && !at.is_null()
            {
                secrets.extend(object_of(kernel, memory.pointer(at.add(data))?)?);
            }
        }
        Ok(secrets)
    }
}

/// The part of `struct user_key_payload` (include/keys/user-type.h) that kdive understands.
#[derive(Load)]
#[load(type = "user_key_payload")]
struct UserPayload {
    datalen: Field<u16>,
    data: Field<MemberAddress>,
}

fn bytes_of(kernel: &Kernel, at: VirtAddr) -> Field<Secret> {
    let payload: UserPayload = kernel.load(at);
    let MemberAddress(data) = payload.data?;
    Ok(Secret { at: data, bytes: payload.datalen?.into(), exact: true })
}

/// The slab object that an address is in: all of it is taken for secret. Small numbers lie where others have pointers.
fn object_of(kernel: &Kernel, at: VirtAddr) -> Field<Option<Secret>> {
    if at.0 >> 63 == 0 {
        return Ok(None);
    }
    let Some(object) = Slabs::find(kernel).object_at(kernel, at)? else { return Ok(None) };
    let size = Slabs::find(kernel).cache(kernel, object.cache).object_size.clone()?;
    Ok(Some(Secret { at: object.object?, bytes: size.into(), exact: false }))
}
