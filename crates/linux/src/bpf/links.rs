//! BPF links: what programs are attached to (`struct bpf_link`, include/linux/bpf.h).

use kdive_base::{VirtAddr, printable};
use kdive_target::{Field, Kernel, Lacks, Load, Loader, Text};

use super::kind;
use crate::net::NetDevice;

/// A link: a program at its place.
#[derive(Clone, Debug)]
pub struct Link {
    /// Its id.
    pub id: u32,
    /// Its `struct bpf_link`.
    pub at: VirtAddr,
    /// What it is: `XDP`, `RAW_TRACEPOINT`...
    pub kind: Field<String>,
    /// The program (`struct bpf_prog`).
    pub program: Field<VirtAddr>,
    /// What it is attached to.
    pub target: Field<Target>,
}

/// What a program is attached to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A tracepoint, by name.
    Tracepoint(String),
    /// A function of the kernel (or of another program), by its address.
    Function(VirtAddr),
    /// Functions of the kernel, by their addresses, the first ones of many, and how many there are.
    Functions(Vec<VirtAddr>, u32),
    /// A network device, and its name.
    Device(VirtAddr, Option<String>),
    /// A control group (`struct cgroup`).
    Group(VirtAddr),
    /// A network namespace (`struct net`).
    Namespace(VirtAddr),
    /// A perf event (`struct file`).
    PerfEvent(VirtAddr),
    /// Kinds of links whose place is not known.
    Other,
}

#[derive(Load)]
#[load(type = "bpf_link")]
struct Raw {
    #[load(any("type"))]
    kind: Field<u32>,
    prog: Field<VirtAddr>,
}

#[derive(Load)]
#[load(type = "bpf_raw_tp_link")]
struct RawTracepoint {
    btp: Field<VirtAddr>,
}

#[derive(Load)]
#[load(type = "bpf_raw_event_map")]
struct EventMap {
    tp: Field<VirtAddr>,
}

#[derive(Load)]
#[load(type = "tracepoint")]
struct Tracepoint {
    name: Field<VirtAddr>,
}

#[derive(Load)]
#[load(type = "bpf_tracing_link")]
struct Tracing {
    trampoline: Field<VirtAddr>,
}

#[derive(Load)]
#[load(type = "bpf_trampoline")]
struct Trampoline {
    #[load(any("func.addr"))]
    function: Field<VirtAddr>,
}

#[derive(Load)]
#[load(type = "bpf_xdp_link")]
struct Xdp {
    dev: Field<VirtAddr>,
}

#[derive(Load)]
#[load(type = "tcx_link")]
struct Tcx {
    dev: Field<VirtAddr>,
}

#[derive(Load)]
#[load(type = "bpf_cgroup_link")]
struct Group {
    cgroup: Field<VirtAddr>,
}

#[derive(Load)]
#[load(type = "bpf_netns_link")]
struct NetNs {
    net: Field<VirtAddr>,
}

#[derive(Load)]
#[load(type = "bpf_perf_link")]
struct Perf {
    perf_file: Field<VirtAddr>,
}

#[derive(Load)]
#[load(type = "bpf_kprobe_multi_link")]
struct KprobeMulti {
    addrs: Field<VirtAddr>,
    cnt: Field<u32>,
}

const MOST_NAME_BYTES: usize = 128;
/// Functions kept of one link.
const MOST_FUNCTIONS: u32 = 16;

/// Loads links. The link is the first member of each kind.
pub struct LinkLoader<'k> {
    kernel: &'k Kernel,
    raw: Loader<'k, Raw>,
}

impl<'k> LinkLoader<'k> {
    /// Bound to a kernel.
    #[must_use]
    pub fn new(kernel: &'k Kernel) -> Self {
        Self { kernel, raw: kernel.loader() }
    }

    /// The link at an address.
    #[must_use]
    pub fn load(&self, id: u32, at: VirtAddr) -> Link {
        let raw = self.raw.load(at);
        let kind = raw.kind.map(|value| kind(self.kernel, "bpf_link", "type", "BPF_LINK_TYPE_", value));
        let target = kind.clone().and_then(|kind| self.target(&kind, at));
        Link { id, at, kind, program: raw.prog, target }
    }

    fn target(&self, kind: &str, at: VirtAddr) -> Field<Target> {
        let kernel = self.kernel;
        Ok(match kind {
            "RAW_TRACEPOINT" => {
                let map: EventMap = kernel.load(kernel.load::<RawTracepoint>(at).btp?);
                let name = kernel.load::<Tracepoint>(map.tp?).name?;
                Target::Tracepoint(printable(&kernel.memory().c_string(name, MOST_NAME_BYTES)?))
            }
            "TRACING" => {
                let trampoline = kernel.load::<Tracing>(at).trampoline?;
                Target::Function(kernel.load::<Trampoline>(trampoline).function?)
            }
            "XDP" => self.device(kernel.load::<Xdp>(at).dev?)?,
            "TCX" => self.device(kernel.load::<Tcx>(at).dev?)?,
            "CGROUP" => Target::Group(kernel.load::<Group>(at).cgroup?),
            "NETNS" => Target::Namespace(kernel.load::<NetNs>(at).net?),
            "PERF_EVENT" => Target::PerfEvent(kernel.load::<Perf>(at).perf_file?),
            "KPROBE_MULTI" => {
                let link: KprobeMulti = kernel.load(at);
                let (first, count) = (link.addrs?, link.cnt?);
                let read = |index: u32| {
                    kernel.memory().pointer(first.add(u64::from(index).wrapping_mul(8))).map_err(Lacks::from)
                };
                Target::Functions((0..count.min(MOST_FUNCTIONS)).map(read).collect::<Field<_>>()?, count)
            }
            _ => Target::Other,
        })
    }

    /// Null once the device is gone.
    fn device(&self, at: VirtAddr) -> Field<Target> {
        if at.is_null() {
            return Err(Lacks::unavailable("the device is gone"));
        }
        let name = self.kernel.load::<NetDevice>(at).name.ok().map(|Text(name)| name);
        Ok(Target::Device(at, name))
    }
}
