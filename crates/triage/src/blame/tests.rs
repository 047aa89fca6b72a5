use kdive_evidence::{FrameTrust, Place, Splat, TraceFrame};

use super::*;

fn place(name: &str, module: Option<&str>) -> Place {
    Place { function: Some(name.to_owned()), module: module.map(str::to_owned), ..Place::default() }
}

fn frame(name: &str) -> TraceFrame {
    let (name, module) = match name.split_once('@') {
        Some((name, module)) => (name, Some(module)),
        None => (name, None),
    };
    let (name, trust) = match name.strip_prefix('?') {
        Some(name) => (name, FrameTrust::PrintedUnsure),
        None => (name, FrameTrust::Printed),
    };
    TraceFrame { place: place(name, module), trust, stack: None, inlined: false, interrupted: false }
}

fn splat(ip: Option<&str>, names: &str) -> Splat {
    Splat {
        ip: ip.map(|name| frame(name).place),
        frames: names.split_whitespace().map(frame).collect(),
        ..Splat::default()
    }
}

fn name(ip: Option<&str>, names: &str, mode: Mode) -> Option<String> {
    guilty(&splat(ip, names), mode).map(|guilty| guilty.function)
}

#[test]
fn suffixes_of_the_compiler_are_stripped() {
    assert_eq!(plain("ext4_get_block.isra.0.cold"), "ext4_get_block");
    assert_eq!(plain("NF_HOOK.clone.2"), "NF_HOOK");
    assert_eq!(plain(".text.lock.vmscan"), ".text.lock.vmscan");
    assert_eq!(plain("schedule"), "schedule");
}

#[test]
fn the_caller_of_a_helper_is_guilty() {
    let found =
        guilty(&splat(Some("list_del"), "sctp_association_free@sctp sctp_do_sm@sctp"), Mode::Fault).unwrap();
    assert_eq!(
        (found.function.as_str(), found.module.as_deref(), found.weak),
        ("sctp_association_free", Some("sctp"), false)
    );
    assert_eq!(
        name(Some("__list_del_entry_valid_or_report"), "foo_remove process_one_work", Mode::Fault).as_deref(),
        Some("foo_remove")
    );
    assert_eq!(
        name(None, "dump_stack_lvl print_report kasan_report __asan_load8 bar vfs_write", Mode::Fault)
            .as_deref(),
        Some("bar")
    );
    assert_eq!(
        name(Some("refcount_warn_saturate"), "sk_free tcp_close", Mode::Fault).as_deref(),
        Some("sk_free")
    );
    // A near miss: what only sounds like a helper is guilty itself.
    assert_eq!(
        name(Some("list_delete_all_users"), "foo", Mode::Fault).as_deref(),
        Some("list_delete_all_users")
    );
}

#[test]
fn doubted_frames_count_only_when_there_are_no_others() {
    assert_eq!(
        name(Some("memcpy"), "?stale_function real_caller", Mode::Fault).as_deref(),
        Some("real_caller")
    );
    let only = guilty(&splat(Some("memcpy"), "?doubtful_caller"), Mode::Fault);
    assert_eq!(only, None, "nothing but a helper is sure");
}

#[test]
fn nobody_beyond_a_dispatcher_or_an_interrupt_is_guilty_of_a_fault() {
    let timer = guilty(
        &splat(
            Some("call_timer_fn"),
            "run_timer_softirq handle_softirqs asm_sysvec_apic_timer_interrupt innocent",
        ),
        Mode::Fault,
    )
    .unwrap();
    assert_eq!((timer.function.as_str(), timer.weak), ("call_timer_fn", true));
    assert_eq!(
        name(Some("memcpy"), "handle_softirqs asm_sysvec_apic_timer_interrupt innocent", Mode::Fault),
        None
    );
    assert_eq!(
        name(Some("panic"), "panic_from_timer call_timer_fn", Mode::Fault).as_deref(),
        Some("panic_from_timer")
    );
}

#[test]
fn a_stall_is_charged_to_what_was_interrupted() {
    let watchdog = "panic watchdog_timer_fn __hrtimer_run_queues hrtimer_interrupt __sysvec_apic_timer_interrupt sysvec_apic_timer_interrupt asm_sysvec_apic_timer_interrupt spin_here@m caller@m do_one_initcall";
    assert_eq!(name(None, watchdog, Mode::Stall).as_deref(), Some("spin_here"));
    assert_eq!(
        name(Some("native_queued_spin_lock_slowpath"), "_raw_spin_lock take_it vfs_write", Mode::Stall)
            .as_deref(),
        Some("take_it")
    );
    assert_eq!(
        name(Some("delay_tsc"), "?watchdog_timer_fn poll_device vfs_read", Mode::Stall).as_deref(),
        Some("poll_device")
    );
}

#[test]
fn a_waiter_is_charged_to_who_asked_for_the_wait() {
    assert_eq!(
        name(
            None,
            "__schedule schedule schedule_preempt_disabled __mutex_lock lock_b_after_a@x kthread",
            Mode::Blocked
        )
        .as_deref(),
        Some("lock_b_after_a")
    );
    assert_eq!(name(None, "__schedule schedule io_schedule folio_wait_bit_common jbd2_journal_commit_transaction kjournald2 kthread", Mode::Blocked).as_deref(), Some("jbd2_journal_commit_transaction"));
    assert_eq!(
        name(
            None,
            "__schedule schedule rwsem_down_write_slowpath down_write vfs_unlink do_unlinkat",
            Mode::Blocked
        )
        .as_deref(),
        Some("vfs_unlink")
    );
}

#[test]
fn a_module_is_inferred_from_addresses_and_a_shared_prefix_only() {
    let mut session = splat(Some("list_del"), "sctp_association_free sctp_do_sm inet_release");
    for (place, at) in session
        .ip
        .iter_mut()
        .chain(session.frames.iter_mut().map(|frame| &mut frame.place))
        .zip([0xffff_ffff_8015_3f77_u64, 0xffff_ffff_8851_33cd, 0xffff_ffff_8851_06ae, 0xffff_ffff_8026_3694])
    {
        place.address = Some(kdive_base::VirtAddr(at));
    }
    assert_eq!(module_of(&session, "sctp_association_free").as_deref(), Some("sctp"));
    assert_eq!(module_of(&session, "inet_release"), None);
}

#[test]
fn nobody_is_blamed_beyond_a_caller_without_a_name() {
    let mut session = splat(Some("list_del"), "x vfs_write ksys_write");
    for frame in &mut session.frames {
        frame.trust = FrameTrust::Orc;
    }
    session.frames[0].place.function = None;
    session.frames[0].place.address = Some(kdive_base::VirtAddr(0xffff_ffff_c051_33cd));
    assert_eq!(guilty_of(&session.frames, Mode::Fault), None);
    // What was interrupted may be a bad address: who jumped there is behind it.
    session.frames[0].interrupted = true;
    let guilty = guilty_of(&session.frames, Mode::Fault).unwrap();
    assert_eq!(guilty.function, "vfs_write");
}
