//! nftables (net/netfilter/nf_tables_api.c): tables, chains, rules, and their expressions as far as they are known.

use std::fmt::Write as _;

use kdive_base::{Endian, VirtAddr, printable};
use kdive_target::walk;
use kdive_target::{Bytes, Field, Kernel, Lacks, Load, MemberAddress};

use super::per_net;

/// A table.
#[derive(Clone, Debug)]
pub struct Table {
    /// Its `struct nft_table`.
    pub at: VirtAddr,
    /// `NFPROTO_*`.
    pub family: Field<u8>,
    /// Its name.
    pub name: Field<String>,
    /// Its number.
    pub handle: Field<u64>,
    chains: Field<MemberAddress>,
    sets: Field<MemberAddress>,
}

/// A chain.
#[derive(Clone, Debug)]
pub struct Chain {
    /// Its `struct nft_chain`.
    pub at: VirtAddr,
    /// Its name.
    pub name: Field<String>,
    /// Its number.
    pub handle: Field<u64>,
    /// Where packets come into it; none for a chain that others jump to.
    pub hook: Option<Hook>,
    rules: Field<MemberAddress>,
}

/// Where packets come into a chain.
#[derive(Clone, Debug)]
pub struct Hook {
    /// `filter`, `nat`, `route`.
    pub kind: Field<String>,
    /// `NF_INET_*` or `NF_NETDEV_*`, by family.
    pub number: Field<u32>,
    /// Lower ones come first.
    pub priority: Field<i32>,
    /// What becomes of packets at its end: 0 drop, 1 accept.
    pub policy: Field<u8>,
}

/// A rule.
#[derive(Clone, Debug)]
pub struct Rule {
    /// Its `struct nft_rule`.
    pub at: VirtAddr,
    /// Its number.
    pub handle: Field<u64>,
    /// Its expressions, in the words of `nft --debug=netlink`.
    pub expressions: Vec<String>,
    /// Why it ends early, where it does.
    pub incomplete: Option<Lacks>,
}

/// A set or map.
#[derive(Clone, Debug)]
pub struct Set {
    /// Its `struct nft_set`.
    pub at: VirtAddr,
    /// Its name.
    pub name: Field<String>,
    /// Its elements.
    pub elements: Field<u32>,
}

#[derive(Load)]
#[load(type = "net")]
struct Net {
    /// Until 5.12 the tables were in the namespace itself.
    #[load(any("nft.tables"))]
    own: Field<MemberAddress>,
    #[load(any("nft.gencursor"))]
    cursor: Field<u8>,
}

#[derive(Load)]
#[load(type = "nft_table", module)]
struct RawTable {
    #[load(address)]
    at: VirtAddr,
    chains: Field<MemberAddress>,
    sets: Field<MemberAddress>,
    handle: Field<u64>,
    family: Field<u8>,
    genmask: Field<u8>,
    name: Field<VirtAddr>,
}

#[derive(Load)]
#[load(type = "nft_chain", module)]
struct RawChain {
    #[load(address)]
    at: VirtAddr,
    rules: Field<MemberAddress>,
    handle: Field<u64>,
    flags: Field<u8>,
    genmask: Field<u8>,
    name: Field<VirtAddr>,
}

#[derive(Load)]
#[load(type = "nft_base_chain", module)]
struct Base {
    #[load(any("ops.hooknum"))]
    number: Field<u32>,
    #[load(any("ops.priority"))]
    priority: Field<i32>,
    #[load(any("type"))]
    kind: Field<VirtAddr>,
    policy: Field<u8>,
}

#[derive(Load)]
#[load(type = "nft_chain_type", module)]
struct ChainType {
    name: Field<VirtAddr>,
}

#[derive(Load)]
#[load(type = "nft_rule", module)]
struct RawRule {
    #[load(address)]
    at: VirtAddr,
    handle: Field<u64>,
    genmask: Field<u8>,
    dlen: Field<u32>,
    data: Field<MemberAddress>,
}

#[derive(Load)]
#[load(type = "nft_set", module)]
struct RawSet {
    #[load(address)]
    at: VirtAddr,
    name: Field<VirtAddr>,
    #[load(any("nelems.counter"))]
    nelems: Field<u32>,
    genmask: Field<u8>,
}

#[derive(Load)]
#[load(type = "nft_expr_ops", module)]
struct Ops {
    size: Field<u32>,
    #[load(any("type"))]
    kind: Field<VirtAddr>,
}

#[derive(Load)]
#[load(type = "nft_expr_type", module)]
struct ExprType {
    name: Field<VirtAddr>,
}

#[derive(Load)]
#[load(type = "nft_payload", module)]
struct Payload {
    base: Field<u32>,
    offset: Field<u32>,
    len: Field<u8>,
    dreg: Field<u8>,
}

#[derive(Load)]
#[load(type = "nft_cmp_expr", module)]
struct Compare {
    data: Field<Bytes>,
    sreg: Field<u8>,
    len: Field<u8>,
    op: Field<u8>,
}

#[derive(Load)]
#[load(type = "nft_cmp_fast_expr", module)]
struct CompareFast {
    data: Field<u32>,
    sreg: Field<u8>,
    inv: Field<bool>,
}

#[derive(Load)]
#[load(type = "nft_cmp16_fast_expr", module)]
struct CompareFast16 {
    data: Field<Bytes>,
    sreg: Field<u8>,
    len: Field<u8>,
    inv: Field<bool>,
}

#[derive(Load)]
#[load(type = "nft_bitwise", module)]
struct Bitwise {
    sreg: Field<u8>,
    dreg: Field<u8>,
    len: Field<u8>,
    mask: Field<Bytes>,
    xor: Field<Bytes>,
}

#[derive(Load)]
#[load(type = "nft_bitwise_fast_expr", module)]
struct BitwiseFast {
    mask: Field<u32>,
    xor: Field<u32>,
    sreg: Field<u8>,
    dreg: Field<u8>,
}

#[derive(Load)]
#[load(type = "nft_immediate_expr", module)]
struct Immediate {
    data: Field<Bytes>,
    dreg: Field<u8>,
    dlen: Field<u8>,
}

#[derive(Load)]
#[load(type = "nft_ct", module)]
struct Ct {
    key: Field<u8>,
    dreg: Field<u8>,
}

#[derive(Load)]
#[load(type = "nft_meta", module)]
struct Meta {
    key: Field<u8>,
    dreg: Field<u8>,
}

#[derive(Load)]
#[load(type = "nft_lookup", module)]
struct Lookup {
    set: Field<VirtAddr>,
    sreg: Field<u8>,
    invert: Field<bool>,
}

#[derive(Load)]
#[load(type = "nft_counter_percpu_priv", module)]
struct CounterPrivate {
    counter: Field<VirtAddr>,
}

#[derive(Load)]
#[load(type = "nft_counter", module)]
struct Counter {
    bytes: Field<u64>,
    packets: Field<u64>,
}

/// Tables, chains of a table, rules of a chain.
const MOST: usize = 1 << 20;
const MOST_NAME_BYTES: usize = 256;
/// `NFT_CHAIN_BASE`: packets come in here.
const BASE: u8 = 1;

/// Whether the kernel has nftables: the module is loaded.
#[must_use]
pub fn is_there(kernel: &Kernel) -> bool {
    kernel.module_member("nft_table", &["chains"]).is_ok()
}

/// The rules of a namespace.
pub struct Rules<'k> {
    kernel: &'k Kernel,
    head: VirtAddr,
    /// The bit of `genmask` that is set in what is not in use.
    unused: u8,
}

impl<'k> Rules<'k> {
    /// Finds the tables of a namespace (`struct net`).
    ///
    /// # Errors
    /// There are none: the module is not loaded, or its types are not known.
    pub fn of(kernel: &'k Kernel, net: VirtAddr) -> Field<Self> {
        let parts: Net = kernel.load(net);
        let unused = 1_u8.checked_shl(parts.cursor?.into()).unwrap_or(0);
        if let Ok(MemberAddress(head)) = parts.own {
            return Ok(Self { kernel, head, unused });
        }
        let own = per_net(kernel, net, kernel.module_symbol("nf_tables_net_id")?)?;
        let inside = kernel.module_member("nftables_pernet", &["tables"])?.offset;
        Ok(Self { kernel, head: own.add(inside), unused })
    }

    fn in_use(&self, genmask: &Field<u8>) -> bool {
        genmask.as_ref().is_ok_and(|mask| mask & self.unused == 0)
    }

    fn text(&self, at: &Field<VirtAddr>) -> Field<String> {
        Ok(printable(&self.kernel.memory().c_string(at.clone()?, MOST_NAME_BYTES)?))
    }

    /// All tables.
    ///
    /// # Errors
    /// Their list cannot be read.
    pub fn tables(&self) -> Field<Vec<Table>> {
        let link = self.kernel.module_member("nft_table", &["list"])?.offset;
        let mut all = Vec::new();
        for at in walk::list(self.kernel.memory(), self.head).take(MOST) {
            let raw: RawTable = self.kernel.load(at?.sub(link));
            if self.in_use(&raw.genmask) {
                let name = self.text(&raw.name);
                let RawTable { at, family, handle, chains, sets, .. } = raw;
                all.push(Table { at, family, name, handle, chains, sets });
            }
        }
        Ok(all)
    }

    /// The chains of a table.
    ///
    /// # Errors
    /// Their list cannot be read.
    pub fn chains(&self, table: &Table) -> Field<Vec<Chain>> {
        let MemberAddress(head) = table.chains.clone()?;
        let link = self.kernel.module_member("nft_chain", &["list"])?.offset;
        let inside = self.kernel.module_member("nft_base_chain", &["chain"])?.offset;
        let mut all = Vec::new();
        for at in walk::list(self.kernel.memory(), head).take(MOST) {
            let raw: RawChain = self.kernel.load(at?.sub(link));
            if !self.in_use(&raw.genmask) {
                continue;
            }
            let is_base = raw.flags.as_ref().is_ok_and(|flags| flags & BASE != 0);
            let hook = is_base.then(|| {
                let base: Base = self.kernel.load(raw.at.sub(inside));
                let kind = base.kind.and_then(|at| self.text(&self.kernel.load::<ChainType>(at).name));
                Hook { kind, number: base.number, priority: base.priority, policy: base.policy }
            });
            let name = self.text(&raw.name);
            all.push(Chain { at: raw.at, name, handle: raw.handle, hook, rules: raw.rules });
        }
        Ok(all)
    }

    /// The sets of a table.
    ///
    /// # Errors
    /// Their list cannot be read.
    pub fn sets(&self, table: &Table) -> Field<Vec<Set>> {
        let MemberAddress(head) = table.sets.clone()?;
        let link = self.kernel.module_member("nft_set", &["list"])?.offset;
        let mut all = Vec::new();
        for at in walk::list(self.kernel.memory(), head).take(MOST) {
            let raw: RawSet = self.kernel.load(at?.sub(link));
            if self.in_use(&raw.genmask) {
                all.push(Set { at: raw.at, name: self.text(&raw.name), elements: raw.nelems });
            }
        }
        Ok(all)
    }

    /// The rules of a chain.
    ///
    /// # Errors
    /// Their list cannot be read.
    pub fn rules(&self, chain: &Chain) -> Field<Vec<Rule>> {
        let MemberAddress(head) = chain.rules.clone()?;
        let link = self.kernel.module_member("nft_rule", &["list"])?.offset;
        let mut all = Vec::new();
        for at in walk::list(self.kernel.memory(), head).take(MOST) {
            let raw: RawRule = self.kernel.load(at?.sub(link));
            if !self.in_use(&raw.genmask) {
                continue;
            }
            let mut expressions = Vec::new();
            let incomplete = self.expressions(&raw, &mut expressions).err();
            all.push(Rule { at: raw.at, handle: raw.handle, expressions, incomplete });
        }
        Ok(all)
    }

    fn expressions(&self, rule: &RawRule, all: &mut Vec<String>) -> Field<()> {
        let (MemberAddress(first), length) = (rule.data.clone()?, u64::from(rule.dlen.clone()?));
        let inside = self.kernel.module_member("nft_expr", &["data"])?.offset;
        let mut offset = 0_u64;
        while offset < length {
            let at = first.add(offset);
            let operations = self.kernel.memory().pointer(at)?;
            let ops: Ops = self.kernel.load(operations);
            let size = u64::from(ops.size.clone()?);
            if size < inside || size > length.saturating_sub(offset) {
                return Err(Lacks::implausible(format_args!("an expression of {size} bytes")));
            }
            let symbol = self.kernel.place(operations).map(|place| place.symbol.name);
            let known = symbol.and_then(|symbol| self.expression(symbol, at.add(inside)).ok().flatten());
            all.push(match known {
                Some(text) => text,
                None => self.text(&self.kernel.load::<ExprType>(ops.kind?).name)?,
            });
            offset = offset.saturating_add(size);
        }
        Ok(())
    }

    /// An expression by the symbol of its operations; `None` for one that is not known.
    fn expression(&self, operations: &str, at: VirtAddr) -> Field<Option<String>> {
        let kernel = self.kernel;
        Ok(Some(match operations {
            "nft_payload_ops" | "nft_payload_fast_ops" => {
                let of: Payload = kernel.load(at);
                let base = self.named("nft_payload_bases", "NFT_PAYLOAD_", of.base?);
                let (length, offset, register) = (of.len?, of.offset?, register(of.dreg?));
                format!("payload load {length}b @ {base} + {offset} => {register}")
            }
            "nft_cmp_ops" => {
                let of: Compare = kernel.load(at);
                let operation = self.named("nft_cmp_ops", "NFT_CMP_", of.op?.into());
                format!("cmp {operation} {} {}", register(of.sreg?), words(&of.data?, of.len?))
            }
            "nft_cmp_fast_ops" => {
                let of: CompareFast = kernel.load(at);
                let operation = if of.inv? { "neq" } else { "eq" };
                format!("cmp {operation} {} {:#010x}", register(of.sreg?), of.data?)
            }
            "nft_cmp16_fast_ops" => {
                let of: CompareFast16 = kernel.load(at);
                let operation = if of.inv? { "neq" } else { "eq" };
                format!("cmp {operation} {} {}", register(of.sreg?), words(&of.data?, of.len?))
            }
            "nft_bitwise_ops" => {
                let of: Bitwise = kernel.load(at);
                let (from, to, length) = (register(of.sreg?), register(of.dreg?), of.len?);
                format!(
                    "bitwise {to} = ( {from} & {} ) ^ {}",
                    words(&of.mask?, length),
                    words(&of.xor?, length)
                )
            }
            "nft_bitwise_fast_ops" => {
                let of: BitwiseFast = kernel.load(at);
                let (from, to) = (register(of.sreg?), register(of.dreg?));
                format!("bitwise {to} = ( {from} & {:#010x} ) ^ {:#010x}", of.mask?, of.xor?)
            }
            "nft_imm_ops" => {
                let of: Immediate = kernel.load(at);
                match of.dreg? {
                    0 => format!("immediate reg 0 {}", self.verdict(&of.data?)?),
                    to => format!("immediate {} {}", register(to), words(&of.data?, of.dlen?)),
                }
            }
            "nft_ct_get_ops" | "nft_ct_get_fast_ops" => {
                let of: Ct = kernel.load(at);
                let key = self.named("nft_ct_keys", "NFT_CT_", of.key?.into());
                format!("ct load {key} => {}", register(of.dreg?))
            }
            "nft_meta_get_ops" => {
                let of: Meta = kernel.load(at);
                let key = self.named("nft_meta_keys", "NFT_META_", of.key?.into());
                format!("meta load {key} => {}", register(of.dreg?))
            }
            "nft_lookup_ops" => {
                let of: Lookup = kernel.load(at);
                let name = self.text(&kernel.load::<RawSet>(of.set?).name)?;
                let not = if of.invert? { "! " } else { "" };
                format!("lookup {not}{} set {name}", register(of.sreg?))
            }
            "nft_counter_ops" => {
                let (packets, bytes) = self.counted(kernel.load::<CounterPrivate>(at).counter?)?;
                format!("counter pkts {packets} bytes {bytes}")
            }
            _ => return Ok(None),
        }))
    }

    fn named(&self, kind: &str, prefix: &str, value: u32) -> String {
        let names = self.kernel.module_enumerators(kind).unwrap_or_default();
        let name = names.iter().find(|(_, of)| *of == i128::from(value));
        match name.and_then(|(name, _)| name.strip_prefix(prefix)) {
            Some(name) => name.to_lowercase().replace('_', " "),
            None => value.to_string(),
        }
    }

    /// `struct nft_verdict`: a code, and a chain for those that go to one.
    fn verdict(&self, Bytes(raw): &Bytes) -> Field<String> {
        let code = Endian::Little.u32(raw, 0).unwrap_or_default().cast_signed();
        let chain = Endian::Little.u64(raw, 8).unwrap_or_default();
        // include/uapi/linux/netfilter/nf_tables.h
        let word = match code {
            0 => "drop",
            1 => "accept",
            -1 => "continue",
            -2 => "break",
            -3 => "jump",
            -4 => "goto",
            -5 => "return",
            3 => "queue",
            other => return Ok(format!("verdict {other}")),
        };
        if !matches!(code, -3 | -4) {
            return Ok(word.to_owned());
        }
        let name = self.text(&self.kernel.load::<RawChain>(VirtAddr(chain)).name)?;
        Ok(format!("{word} -> {name}"))
    }

    fn counted(&self, at: VirtAddr) -> Field<(u64, u64)> {
        let cpus = self.kernel.cpus()?;
        let loader = self.kernel.loader::<Counter>();
        let (mut packets, mut bytes) = (0_u64, 0_u64);
        for cpu in cpus.possible.iter() {
            let counter = loader.load(cpus.per_cpu(at, cpu)?);
            packets = packets.wrapping_add(counter.packets?);
            bytes = bytes.wrapping_add(counter.bytes?);
        }
        Ok((packets, bytes))
    }
}

/// A register: the kernel counts in units of 4 bytes, the first of which hold the verdict; programs have four of 16.
fn register(number: u8) -> String {
    match (number / 4, number % 4) {
        (whole, 0) => format!("reg {whole}"),
        // NFT_REG32_00 is 8.
        _ => format!("reg {}", number.saturating_add(4)),
    }
}

/// Data as `nft --debug=netlink` shows it: words of 32 bits.
fn words(Bytes(raw): &Bytes, length: u8) -> String {
    let mut text = String::new();
    let raw = raw.get(..usize::from(length)).unwrap_or(raw);
    for word in raw.chunks(4) {
        let mut whole = [0; 4];
        whole.iter_mut().zip(word).for_each(|(to, from)| *to = *from);
        let _ = write!(text, "{}{:#010x}", if text.is_empty() { "" } else { " " }, u32::from_le_bytes(whole));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_is_shown_as_nft_shows_it() {
        assert_eq!(words(&Bytes(vec![0x1e, 0x61, 0xff, 0xff]), 2), "0x0000611e");
        assert_eq!(words(&Bytes(vec![1, 0, 0, 0, 2, 0, 0, 0]), 8), "0x00000001 0x00000002");
        assert_eq!(words(&Bytes(vec![1]), 9), "0x00000001", "a damaged length");
        assert_eq!(
            [register(0), register(4), register(8), register(5)],
            ["reg 0", "reg 1", "reg 2", "reg 9"]
        );
    }
}
