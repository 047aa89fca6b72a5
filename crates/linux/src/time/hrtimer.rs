//! High-resolution timers: by nanoseconds of one of several clocks (kernel/time/hrtimer.c).

use kdive_base::VirtAddr;
use kdive_target::walk::{Order, RbLayout, rbtree};
use kdive_target::{Field, Kernel, Lacks, Load, Loader};

use super::function_name;

/// A timer that waits (`struct hrtimer`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HrTimer {
    /// Where it lies.
    pub at: VirtAddr,
    /// From when on it may run, in nanoseconds of its clock.
    pub soft_expires: u64,
    /// When it must run.
    pub expires: u64,
    /// What it calls.
    pub function: VirtAddr,
}

/// The timers of one clock on one processor (`struct hrtimer_clock_base`).
#[derive(Clone, Debug)]
pub struct ClockBase {
    /// Its number.
    pub index: u32,
    /// Where it lies.
    pub at: VirtAddr,
    /// The function that tells the clock's time.
    pub clock: Option<String>,
    /// What the clock is ahead of the monotonic one, in nanoseconds.
    pub offset: Field<i64>,
    /// The timers, by the time at which they must run.
    pub timers: Vec<HrTimer>,
    /// Why timers may be lacking.
    pub lacks: Vec<Lacks>,
}

/// A processor's clocks (`struct hrtimer_cpu_base`).
#[derive(Clone, Debug)]
pub struct CpuBase {
    /// The processor.
    pub cpu: u32,
    /// Where it lies.
    pub at: VirtAddr,
    /// Its clocks.
    pub clocks: Vec<ClockBase>,
}

#[derive(Load)]
#[load(type = "hrtimer_clock_base")]
struct RawBase {
    /// To 6.17; later kernels go by the number of the clock.
    get_time: Field<VirtAddr>,
    offset: Field<i64>,
    #[load(any("active.rb_root.rb_root.rb_node", "active.head.rb_node"))]
    top: Field<VirtAddr>,
}

#[derive(Load)]
#[load(type = "hrtimer")]
struct RawTimer {
    #[load(address)]
    at: VirtAddr,
    #[load(any("_softexpires"))]
    soft_expires: Field<u64>,
    #[load(any("node.expires"))]
    expires: Field<u64>,
    function: Field<VirtAddr>,
}

/// What tells the time of each clock (`enum hrtimer_base_type`), for kernels whose bases do not say.
const CLOCKS: [&str; 4] = ["ktime_get", "ktime_get_real", "ktime_get_boottime", "ktime_get_clocktai"];

/// The clocks of a processor and their timers.
///
/// # Errors
/// Where they lie is not known.
pub fn cpu_base(kernel: &Kernel, cpu: u32) -> Field<CpuBase> {
    let at = kernel.per_cpu("hrtimer_bases", cpu)?;
    let bases = kernel.member("hrtimer_cpu_base", &["clock_base"])?;
    let bytes = kernel.size_of("hrtimer_clock_base")?;
    let count = bases.bytes.checked_div(bytes).unwrap_or(0).min(64);
    let reader = Reader {
        kernel,
        base: kernel.loader(),
        timer: kernel.loader(),
        node: kernel.offset_of("hrtimer", "node")?,
        layout: RbLayout::find(kernel)?,
    };
    let clock = |index: u64| reader.clock(index as u32, at.add(bases.offset).add(bytes.wrapping_mul(index)));
    Ok(CpuBase { cpu, at, clocks: (0..count).map(clock).collect() })
}

struct Reader<'k> {
    kernel: &'k Kernel,
    base: Loader<'k, RawBase>,
    timer: Loader<'k, RawTimer>,
    /// Offset of the tree's link in a timer.
    node: u64,
    layout: RbLayout,
}

impl Reader<'_> {
    fn clock(&self, index: u32, at: VirtAddr) -> ClockBase {
        let raw = self.base.load(at);
        // The soft clocks come behind the hard ones, in the same order.
        let by_number = || CLOCKS.get(index as usize % CLOCKS.len()).map(|name| (*name).to_owned());
        let clock = match raw.get_time {
            Ok(function) => function_name(self.kernel, function),
            Err(Lacks::Member { .. }) => by_number(),
            Err(_) => None,
        };
        let mut base =
            ClockBase { index, at, clock, offset: raw.offset, timers: Vec::new(), lacks: Vec::new() };
        match raw.top {
            Ok(top) => self.timers(top, &mut base),
            Err(lacks) => base.lacks.push(lacks),
        }
        base
    }

    fn timers(&self, top: VirtAddr, base: &mut ClockBase) {
        for node in rbtree(self.kernel.memory(), self.layout, top, Order::Sorted) {
            let found = node.map_err(Lacks::from).and_then(|node| {
                let raw = self.timer.load(node.at.sub(self.node));
                Ok(HrTimer {
                    at: raw.at,
                    soft_expires: raw.soft_expires?,
                    expires: raw.expires?,
                    function: raw.function?,
                })
            });
            match found {
                Ok(timer) => base.timers.push(timer),
                Err(lacks) => base.lacks.push(lacks),
            }
        }
    }
}
