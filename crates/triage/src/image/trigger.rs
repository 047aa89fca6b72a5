//! What ended the kernel, by the functions on the stack that died and by the switches that were set.

use kdive_evidence::StackKind;
use kdive_linux::tasks::Tasks;
use kdive_target::Kernel;

use crate::case::{Case, Crashed, Trigger, TriggerKind};

/// Functions that lead into `panic()`, and what they tell. The innermost frame that is one of them decides.
const CALLERS: &[(&str, TriggerKind)] = &[
    ("sysrq_handle_crash", TriggerKind::Sysrq),
    ("mce_panic", TriggerKind::MachineCheck),
    ("do_machine_check", TriggerKind::MachineCheck),
    ("watchdog_timer_fn", TriggerKind::SoftLockupPanic),
    ("watchdog_overflow_callback", TriggerKind::HardLockupPanic),
    ("watchdog_hardlockup_check", TriggerKind::HardLockupPanic),
    ("check_hung_uninterruptible_tasks", TriggerKind::HungTaskPanic),
    ("check_hung_task", TriggerKind::HungTaskPanic),
    ("panic_on_rcu_stall", TriggerKind::RcuStallPanic),
    ("print_other_cpu_stall", TriggerKind::RcuStallPanic),
    ("print_cpu_stall", TriggerKind::RcuStallPanic),
    ("rcu_check_gp_kthread_starvation", TriggerKind::RcuStallPanic),
    ("check_panic_on_warn", TriggerKind::PanicOnWarn),
    ("__warn", TriggerKind::PanicOnWarn),
    ("out_of_memory", TriggerKind::OutOfMemoryPanic),
    ("add_taint", TriggerKind::PanicSwitch),
    ("io_check_error", TriggerKind::NmiButton),
    ("pci_serr_error", TriggerKind::NmiButton),
    ("unknown_nmi_error", TriggerKind::NmiButton),
];

/// What ended the kernel, as far as memory tells it.
pub(super) fn read(kernel: &Kernel, crashed: Option<&Crashed>, case: &Case<'_>) -> Option<Trigger> {
    let Some(crashed) = crashed else {
        // Nobody panicked: if that is certain, somebody took the image from outside.
        let tasks = Tasks::find(kernel);
        let is_known = tasks.processors().iter().any(|of| of.current.is_ok());
        let text = "no processor was in a panic: the image was taken from outside".to_owned();
        return (is_known && case.trigger.is_none()).then_some(Trigger { kind: TriggerKind::Snapshot, text });
    };
    let functions: Vec<&str> =
        crashed.frames.iter().filter_map(|frame| frame.place.function.as_deref()).map(plain).collect();
    let called = functions.iter().find_map(|name| {
        let (_, kind) = CALLERS.iter().find(|(caller, _)| caller == name)?;
        Some((*kind, format!("{name} is on the stack that panicked")))
    });
    let (kind, text) = called.or_else(|| by_context(kernel, crashed, &functions))?;
    Some(Trigger { kind, text })
}

/// The name without what the compiler put behind it.
fn plain(name: &str) -> &str {
    kdive_linux::tasks::plain_name(name)
}

/// An oops that ended the kernel, a thread that exists to panic, the end of init; else `panic()` as it is.
fn by_context(kernel: &Kernel, crashed: &Crashed, functions: &[&str]) -> Option<(TriggerKind, String)> {
    let has = |name: &str| functions.contains(&name);
    let died = ["oops_end", "die", "__die", "die_addr", "page_fault_oops", "__die_body", "exc_double_fault"];
    if functions.iter().any(|name| died.contains(name)) {
        let in_interrupt = crashed.frames.iter().any(|frame| frame.stack == Some(StackKind::Irq));
        return Some(match (crashed.pid, switch(kernel, "panic_on_oops")) {
            (Some(0), _) => (TriggerKind::FatalOops, "an oops in the idle task".into()),
            (Some(1), _) => (TriggerKind::FatalOops, "an oops in init".into()),
            _ if has("exc_double_fault") => (TriggerKind::FatalOops, "a double fault".into()),
            _ if in_interrupt => (TriggerKind::FatalOops, "an oops in interrupt context".into()),
            (_, Some(1..)) => (TriggerKind::PanicOnOops, "an oops, and panic_on_oops is set".into()),
            _ => (TriggerKind::FatalOops, "an oops".into()),
        });
    }
    if crashed.comm.as_deref() == Some("khungtaskd") {
        return Some((TriggerKind::HungTaskPanic, "khungtaskd panicked".into()));
    }
    if crashed.pid == Some(1) && (has("do_exit") || has("do_group_exit")) {
        return Some((TriggerKind::InitKilled, "init panicked in its exit".into()));
    }
    let panicked = has("panic") || has("vpanic");
    panicked.then(|| (TriggerKind::Panic, "panic() was called".into()))
}

/// A switch that an administrator sets.
fn switch(kernel: &Kernel, name: &str) -> Option<u32> {
    kernel.memory().u32(kernel.symbol(name).ok()?).ok()
}
