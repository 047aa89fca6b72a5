//! What `/proc/sys` shows (fs/proc/proc_sysctl.c): trees of tables, one for the system and one for each namespace.

use kdive_base::{VirtAddr, printable};
use kdive_target::{Field, Kernel, Lacks, Load, Loader, walk};
use rustc_hash::FxHashSet;

use super::setting::{Integer, Setting};
use super::ticks_per_second;

/// A setting below `/proc/sys`.
#[derive(Clone, Debug)]
pub struct Sysctl {
    /// Its name with dots, as `sysctl` has it: `kernel.panic`. A dot inside of a part is a slash.
    pub name: String,
    /// Its `struct ctl_table`.
    pub at: VirtAddr,
    /// Where the value lies; null where the kernel computes it.
    pub data: VirtAddr,
    /// What shows and sets it: `proc_dointvec`.
    pub handler: Option<String>,
    /// The value.
    pub value: Field<Setting>,
    /// Whether the handler is one whose values are known; else the value is what memory holds.
    pub is_known: bool,
}

#[derive(Clone, Debug, Load)]
#[load(type = "ctl_table")]
struct Table {
    procname: Field<VirtAddr>,
    data: Field<VirtAddr>,
    maxlen: Field<u32>,
    mode: Field<u16>,
    proc_handler: Field<VirtAddr>,
}

#[derive(Clone, Debug, Load)]
#[load(type = "ctl_node")]
struct Node {
    header: Field<VirtAddr>,
}

#[derive(Clone, Debug, Load)]
#[load(type = "ctl_table_header")]
struct Header {
    ctl_table: Field<VirtAddr>,
    node: Field<VirtAddr>,
}

#[derive(Clone, Debug, Load)]
#[load(type = "ctl_dir")]
struct Directory {
    #[load(any("root.rb_node"))]
    root: Field<VirtAddr>,
}

/// All settings, and why some may be lacking.
#[derive(Clone, Debug, Default)]
pub struct Sysctls {
    /// By name.
    pub list: Vec<Sysctl>,
    /// What could not be followed.
    pub incomplete: Vec<Lacks>,
}

/// More settings than any kernel has.
const MOST: usize = 1 << 18;
/// No path is deeper.
const MOST_DEPTH: u32 = 32;
/// Nor is any longer.
const MOST_PREFIX: usize = 1024;
/// A table has fewer entries.
const MOST_ENTRIES: u64 = 1 << 16;
/// `NAME_MAX`.
const MOST_NAME: usize = 255;

/// The settings of the system, and of the first network, IPC, user and pid namespaces.
///
/// # Errors
/// The kernel does not say where its tables are.
pub fn sysctls(kernel: &Kernel) -> Field<Sysctls> {
    let root = kernel.symbol("sysctl_table_root")?;
    let walker = Walker::new(kernel)?;
    let mut found = Sysctls::default();
    let default = root.add(kernel.offset_of("ctl_table_root", "default_set.dir")?);
    walker.directory(default, &mut found);
    let sets = [
        ("init_net", "net", "sysctls"),
        ("init_ipc_ns", "ipc_namespace", "ipc_set"),
        ("init_ipc_ns", "ipc_namespace", "mq_set"),
        ("init_user_ns", "user_namespace", "set"),
        // 6.14.
        ("init_pid_ns", "pid_namespace", "set"),
    ];
    for (symbol, record, member) in sets {
        // Before 5.19 these were the system's.
        let set = kernel.symbol(symbol).and_then(|at| Ok(at.add(kernel.offset_of(record, member)?)));
        if let (Ok(set), Ok(inside)) = (set, kernel.offset_of("ctl_table_set", "dir")) {
            walker.directory(set.add(inside), &mut found);
        }
    }
    found.list.sort_by(|one, other| one.name.cmp(&other.name));
    found.list.dedup_by(|one, other| one.name == other.name);
    Ok(found)
}

struct Walker<'k> {
    kernel: &'k Kernel,
    table: Loader<'k, Table>,
    node: Loader<'k, Node>,
    header: Loader<'k, Header>,
    directory: Loader<'k, Directory>,
    layout: walk::RbLayout,
    table_bytes: u64,
    node_bytes: u64,
    link: u64,
    header_in_directory: u64,
    ticks: Field<u64>,
}

impl<'k> Walker<'k> {
    fn new(kernel: &'k Kernel) -> Field<Self> {
        Ok(Self {
            kernel,
            table: kernel.loader(),
            node: kernel.loader(),
            header: kernel.loader(),
            directory: kernel.loader(),
            layout: walk::RbLayout::find(kernel)?,
            table_bytes: kernel.size_of("ctl_table")?.max(1),
            node_bytes: kernel.size_of("ctl_node")?.max(1),
            link: kernel.offset_of("ctl_node", "node")?,
            header_in_directory: kernel.offset_of("ctl_dir", "header")?,
            ticks: ticks_per_second(kernel),
        })
    }

    /// Adds all settings below a directory (`struct ctl_dir`).
    fn directory(&self, root: VirtAddr, into: &mut Sysctls) {
        let mut seen = FxHashSet::default();
        let mut todo = vec![(root, String::new(), 0)];
        while let Some((at, prefix, depth)) = todo.pop() {
            if !seen.insert(at) || depth > MOST_DEPTH || prefix.len() > MOST_PREFIX || into.list.len() >= MOST
            {
                into.incomplete.push(Lacks::implausible("a tree of settings that does not end"));
                continue;
            }
            let top = match self.directory.load(at).root {
                Ok(top) if top.is_null() => continue,
                Ok(top) => top,
                Err(lacks) => {
                    into.incomplete.push(lacks);
                    continue;
                }
            };
            for item in walk::rbtree(self.kernel.memory(), self.layout, top, walk::Order::Sorted) {
                let entry =
                    item.map_err(Lacks::from).and_then(|item| self.entry(item.at.sub(self.link), &prefix));
                match entry {
                    Ok(Entry::Directory { at, name }) => todo.push((at, name, depth + 1)),
                    Ok(Entry::Setting(setting)) => into.list.push(*setting),
                    Ok(Entry::Link) => {}
                    Err(lacks) => into.incomplete.push(lacks),
                }
            }
        }
    }

    /// What a node of a directory's tree stands for: an entry of its header's table has the same place in the table as the
    /// node has among the header's nodes.
    fn entry(&self, node: VirtAddr, prefix: &str) -> Field<Entry> {
        let header_at = self.node.load(node).header?;
        let header = self.header.load(header_at);
        let index = node.0.wrapping_sub(header.node?.0) / self.node_bytes;
        if index > MOST_ENTRIES {
            return Err(Lacks::implausible(format_args!("the node {node:#} is of no table")));
        }
        let at = header.ctl_table?.add(index.wrapping_mul(self.table_bytes));
        let table = self.table.load(at);
        let name = printable(&self.kernel.memory().c_string(table.procname.clone()?, MOST_NAME)?);
        let name = name.replace('.', "/");
        let name = if prefix.is_empty() { name } else { format!("{prefix}.{name}") };
        Ok(match table.mode.clone()? >> 12 {
            // S_IFDIR: the header is that of the directory itself.
            0o04 => Entry::Directory { at: header_at.sub(self.header_in_directory), name },
            // S_IFLNK: the namespace's tree has the setting.
            0o12 => Entry::Link,
            _ => Entry::Setting(Box::new(self.setting(at, name, &table))),
        })
    }

    fn setting(&self, at: VirtAddr, name: String, table: &Table) -> Sysctl {
        let place = table.proc_handler.clone().ok().and_then(|at| self.kernel.place(at));
        let handler = place.map(|place| place.symbol.name.to_owned());
        let how = handler.as_deref().map_or(How::Unknown, How::of);
        let data = table.data.clone().unwrap_or(VirtAddr(0));
        Sysctl { name, at, data, value: self.value(how, data, table), is_known: how != How::Unknown, handler }
    }

    fn value(&self, how: How, data: VirtAddr, table: &Table) -> Field<Setting> {
        let bytes = u64::from(table.maxlen.clone()?);
        if table.data.clone()?.is_null() || bytes == 0 {
            return Err(Lacks::unavailable("the kernel computes it when it is asked"));
        }
        match how {
            How::Text => Setting::text(self.kernel, data, bytes),
            How::Flag => Setting::flag(self.kernel, data),
            How::Number { integer, unit } => {
                let value = Setting::numbers(self.kernel, data, integer, bytes)?;
                self.in_unit(value, unit)
            }
            How::Unknown => {
                let width = match bytes {
                    1 | 2 | 4 | 8 => bytes as usize,
                    _ => return Err(Lacks::unavailable("its handler is not known")),
                };
                Setting::numbers(self.kernel, data, Integer { bytes: width, signed: true }, bytes)
            }
        }
    }

    /// What is kept in ticks is shown in another unit.
    fn in_unit(&self, value: Setting, unit: Option<i128>) -> Field<Setting> {
        let (Some(per_second), Setting::Numbers(numbers)) = (unit, &value) else { return Ok(value) };
        let ticks = i128::from(self.ticks.clone()?.max(1));
        Ok(Setting::Numbers(numbers.iter().map(|number| number.saturating_mul(per_second) / ticks).collect()))
    }
}

enum Entry {
    Directory { at: VirtAddr, name: String },
    Setting(Box<Sysctl>),
    Link,
}

/// How a handler shows its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    Text,
    Flag,
    /// Units in a second, for what is kept in ticks.
    Number {
        integer: Integer,
        unit: Option<i128>,
    },
    Unknown,
}

impl How {
    /// By the handler's name: those of kernel/sysctl.c, and those of others that say what they are made of.
    fn of(handler: &str) -> Self {
        /// `USER_HZ`.
        const USER_TICKS: i128 = 100;
        let unit = if handler.contains("ms_jiffies") {
            Some(1000)
        } else if handler.contains("userhz_jiffies") {
            Some(USER_TICKS)
        } else if handler.ends_with("_jiffies") || handler.ends_with("_jiffies_minmax") {
            Some(1)
        } else {
            None
        };
        let number = |bytes, signed| Self::Number { integer: Integer { bytes, signed }, unit };
        match handler {
            // It shows packets for what is kept in bytes.
            _ if handler.contains("unres_qlen") => Self::Unknown,
            "proc_do_uts_string" => Self::Text,
            _ if handler.contains("dostring") => Self::Text,
            _ if handler.contains("dobool") => Self::Flag,
            _ if handler.contains("dou8vec") => number(1, false),
            _ if handler.contains("doulongvec") => number(8, false),
            _ if handler.contains("douintvec") => number(4, false),
            _ if handler.contains("dointvec") => number(4, true),
            _ => Self::Unknown,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handlers_say_what_they_show() {
        let number = |bytes, signed, unit| How::Number { integer: Integer { bytes, signed }, unit };
        assert_eq!(How::of("proc_dostring"), How::Text);
        assert_eq!(How::of("proc_dointvec_minmax"), number(4, true, None));
        assert_eq!(How::of("proc_doulongvec_minmax"), number(8, false, None));
        assert_eq!(How::of("proc_dointvec_ms_jiffies"), number(4, true, Some(1000)));
        assert_eq!(How::of("proc_dointvec_userhz_jiffies"), number(4, true, Some(100)));
        assert_eq!(How::of("neigh_proc_dointvec_jiffies"), number(4, true, Some(1)));
        assert_eq!(How::of("sched_rt_handler"), How::Unknown);
    }
}
