//! Probes of code: of the kernel's (kernel/kprobes.c) and of programs (kernel/events/uprobes.c).
//!
//! A hash table has a probe for each probed address. Where several share an address, or where the probe was made a jump,
//! that one stands for those in its list.

use kdive_base::VirtAddr;
use kdive_target::walk::{Order, RbLayout};
use kdive_target::{Field, Kernel, Lacks, Load, MemberAddress, walk};
use serde::Serialize;

use crate::tasks::plain_name;
use crate::{path, trace};

/// How a probe gets hold of the processor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Means {
    /// An `int3` instruction.
    Breakpoint,
    /// A jump to code made for it.
    Jump,
    /// The function's entry for tracing.
    Ftrace,
}

impl Means {
    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Breakpoint => "breakpoint",
            Self::Jump => "jump",
            Self::Ftrace => "ftrace",
        }
    }
}

/// A probe of the kernel's code.
#[derive(Clone, Debug, Serialize)]
pub struct KernelProbe {
    /// Its `struct kprobe`.
    pub kprobe: VirtAddr,
    /// The address that it probes.
    pub address: VirtAddr,
    /// That address by name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub place: Option<String>,
    /// Whether it is one of a function's return (`struct kretprobe`).
    pub is_return: bool,
    /// How it gets hold of the processor.
    pub by: Means,
    /// Switched off.
    pub disabled: bool,
    /// Its code was unloaded.
    pub gone: bool,
    /// What it calls.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub handler: Option<String>,
    /// How often it was not called, because another probe was being handled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub missed: Option<u64>,
    /// The event of tracing that it makes (`kprobes/name`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub event: Option<String>,
}

/// A probe of a program's code.
#[derive(Clone, Debug, Serialize)]
pub struct UserProbe {
    /// Its `struct uprobe`.
    pub uprobe: VirtAddr,
    /// The file that has the code (`struct inode`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inode: Option<VirtAddr>,
    /// Its path in its file system, by one of its names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// Where in the file, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offset: Option<u64>,
    /// Who wants it: events of tracing, or functions that are called.
    pub consumers: Vec<String>,
}

/// All probes.
#[derive(Debug, Default)]
pub struct Probes {
    /// Those of the kernel, by address.
    pub kernel: Vec<KernelProbe>,
    /// Those of programs.
    pub user: Vec<UserProbe>,
    /// Whether all of the kernel's were switched off (`/sys/kernel/debug/kprobes/enabled`).
    pub all_disarmed: bool,
    /// What could not be told.
    pub lacks: Vec<Lacks>,
}

#[derive(Load)]
#[load(type = "kprobe")]
struct RawProbe {
    #[load(address)]
    at: VirtAddr,
    list: Field<MemberAddress>,
    addr: Field<VirtAddr>,
    pre_handler: Field<VirtAddr>,
    post_handler: Field<VirtAddr>,
    nmissed: Field<u64>,
    flags: Field<u32>,
}

#[derive(Load)]
#[load(type = "uprobe")]
struct RawUser {
    inode: Field<VirtAddr>,
    offset: Field<u64>,
    consumers: Field<MemberAddress>,
}

/// `KPROBE_TABLE_SIZE` (kernel/kprobes.c), since 2.6.
const CHAINS: u64 = 64;
// Flags (include/linux/kprobes.h).
const GONE: u32 = 1;
const DISABLED: u32 = 2;
const OPTIMIZED: u32 = 4;
const FTRACE: u32 = 8;
/// Most probes of all, and of one address.
const MOST: usize = 1 << 20;

impl Probes {
    /// The probes of a kernel.
    #[must_use]
    pub fn find(kernel: &Kernel) -> Self {
        let mut probes = Self::default();
        if let Err(why) = add_kernel(kernel, &mut probes) {
            probes.lacks.push(why);
        }
        probes.kernel.sort_by_key(|probe| (probe.address, probe.kprobe));
        // A kernel without them has no such tree.
        if kernel.symbol("uprobes_tree").is_ok()
            && let Err(why) = add_user(kernel, &mut probes)
        {
            probes.lacks.push(why);
        }
        let disarmed = kernel.symbol("kprobes_all_disarmed").and_then(|at| Ok(kernel.memory().u8(at)?));
        probes.all_disarmed = disarmed.is_ok_and(|flag| flag != 0);
        probes
    }
}

fn add_kernel(kernel: &Kernel, probes: &mut Probes) -> Field<()> {
    let (memory, table) = (kernel.memory(), kernel.symbol("kprobe_table")?);
    let (hash_link, link) = (kernel.offset_of("kprobe", "hlist")?, kernel.offset_of("kprobe", "list")?);
    let loader = kernel.loader::<RawProbe>();
    for item in walk::hash_table(memory, table, CHAINS, 0).take(MOST) {
        let at = match item {
            Ok(at) => at.sub(hash_link),
            Err(why) => {
                probes.lacks.push(why.into());
                continue;
            }
        };
        let raw = loader.load(at);
        let stands_for_others = function(kernel, &raw.pre_handler).as_deref() == Some("aggr_pre_handler");
        let head = raw.list.clone().ok().filter(|_| stands_for_others);
        let Some(MemberAddress(head)) = head else {
            probes.kernel.extend(kernel_probe(kernel, &raw, &raw));
            continue;
        };
        for item in walk::list(memory, head).take(MOST) {
            match item {
                Ok(at) => probes.kernel.extend(kernel_probe(kernel, &loader.load(at.sub(link)), &raw)),
                Err(why) => probes.lacks.push(why.into()),
            }
        }
    }
    Ok(())
}

/// The name of the function that a member points to.
fn function(kernel: &Kernel, at: &Field<VirtAddr>) -> Option<String> {
    let at = at.as_ref().ok().copied().filter(|at| !at.is_null())?;
    Some(plain_name(kernel.place(at)?.symbol.name).to_owned())
}

/// A probe, and the one that stands for it in the table.
fn kernel_probe(kernel: &Kernel, raw: &RawProbe, armed: &RawProbe) -> Option<KernelProbe> {
    let address = raw.addr.clone().ok()?;
    let (own, flags) = (raw.flags.clone().unwrap_or(0), armed.flags.clone().unwrap_or(0));
    let mut handler = function(kernel, &raw.pre_handler);
    let is_return = handler.as_deref().is_some_and(|name| name.starts_with("pre_handler_kretprobe"));
    if is_return {
        let at = kernel.member("kretprobe", &["handler"]).map(|member| raw.at.add(member.offset));
        handler = function(kernel, &at.and_then(|at| Ok(kernel.memory().pointer(at)?)));
    }
    let is_event =
        handler.as_deref().is_some_and(|name| matches!(name, "kprobe_dispatcher" | "kretprobe_dispatcher"));
    Some(KernelProbe {
        kprobe: raw.at,
        address,
        place: kernel.place(address).map(|place| place.to_string()),
        is_return,
        by: match flags {
            flags if flags & FTRACE != 0 => Means::Ftrace,
            flags if flags & OPTIMIZED != 0 => Means::Jump,
            _ => Means::Breakpoint,
        },
        disabled: (own | flags) & DISABLED != 0,
        gone: (own | flags) & GONE != 0,
        handler: handler.or_else(|| function(kernel, &raw.post_handler)),
        missed: raw.nmissed.clone().ok(),
        event: is_event.then(|| event(kernel, "trace_kprobe", "rp", raw.at).ok()).flatten(),
    })
}

/// The event of the `struct trace_kprobe` or `trace_uprobe` whose `member` lies at an address.
fn event(kernel: &Kernel, of: &str, member: &str, at: VirtAddr) -> Field<String> {
    let probe = at.sub(kernel.offset_of(of, member)?).add(kernel.offset_of(of, "tp")?);
    let event = kernel.memory().pointer(probe.add(kernel.offset_of("trace_probe", "event")?))?;
    let (system, name) = trace::names(kernel, event.add(kernel.offset_of("trace_probe_event", "call")?))?;
    Ok(format!("{system}/{name}"))
}

fn add_user(kernel: &Kernel, probes: &mut Probes) -> Field<()> {
    let root = kernel.memory().pointer(kernel.symbol("uprobes_tree")?)?;
    let node = kernel.offset_of("uprobe", "rb_node")?;
    let loader = kernel.loader::<RawUser>();
    for item in walk::rbtree(kernel.memory(), RbLayout::find(kernel)?, root, Order::Sorted).take(MOST) {
        let at = item?.at.sub(node);
        let raw = loader.load(at);
        let inode = raw.inode.ok();
        probes.user.push(UserProbe {
            uprobe: at,
            inode,
            file: inode.and_then(|inode| file(kernel, inode).ok()),
            offset: raw.offset.ok(),
            consumers: raw.consumers.and_then(|MemberAddress(at)| consumers(kernel, at)).unwrap_or_default(),
        });
    }
    Ok(())
}

/// The path of an inode, by the first directory entry that names it.
fn file(kernel: &Kernel, inode: VirtAddr) -> Field<String> {
    let first = kernel.memory().pointer(inode.add(kernel.offset_of("inode", "i_dentry")?))?;
    if first.is_null() {
        return Err(Lacks::unavailable("no directory entry names it"));
    }
    path::in_file_system(kernel, first.sub(kernel.member("dentry", &["d_u.d_alias", "d_alias"])?.offset))
}

/// Who wants a probe: a list with a head since 6.13, one that ends with null before.
fn consumers(kernel: &Kernel, at: VirtAddr) -> Field<Vec<String>> {
    let memory = kernel.memory();
    let found: Vec<VirtAddr> = match kernel.offset_of("uprobe_consumer", "cons_node") {
        Ok(link) => walk::list(memory, at).take(MOST).map_while(Result::ok).map(|at| at.sub(link)).collect(),
        Err(_) => {
            let next = kernel.offset_of("uprobe_consumer", "next")?;
            walk::null_terminated(memory, memory.pointer(at)?, next)
                .take(MOST)
                .map_while(Result::ok)
                .collect()
        }
    };
    let handlers = [
        kernel.offset_of("uprobe_consumer", "handler")?,
        kernel.offset_of("uprobe_consumer", "ret_handler")?,
    ];
    let name = |at: VirtAddr| {
        let handler = |offset: &u64| function(kernel, &memory.pointer(at.add(*offset)).map_err(Lacks::from));
        let handler = handlers.iter().find_map(handler)?;
        let is_event = matches!(&*handler, "uprobe_dispatcher" | "uretprobe_dispatcher");
        let event = is_event.then(|| event(kernel, "trace_uprobe", "consumer", at).ok()).flatten();
        Some(event.unwrap_or(handler))
    };
    Ok(found.into_iter().filter_map(name).collect())
}
