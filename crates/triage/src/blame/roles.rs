//! What a function of the kernel is to blame: tables of names.
//!
//! The names are those of kernels from 2.4 to 7.x. A name that ends in `*` stands for all that begin so.

use std::sync::LazyLock;

use rustc_hash::FxHashMap;

/// What part a function has in a failure on its stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// It did something of its own: a candidate.
    Ordinary,
    /// It reports: exception handlers, `panic`, watchdogs, the way to kdump.
    CrashPath,
    /// It does one small thing with what others gave it: lists, strings, reference counts, checks of sanitizers.
    Helper,
    /// It takes or gives a lock.
    Lock,
    /// It waits, or lets others run.
    Wait,
    /// It hands out memory or takes it back.
    Allocator,
    /// It calls what it was given: timers, RCU callbacks, work items, initcalls. Beyond it is nobody to blame.
    Dispatcher,
    /// The way into the kernel and the frames at the end of each stack.
    Entry,
    /// Interrupt entry: between what interrupted and what was interrupted.
    Interrupt,
    /// Where a subsystem begins: system calls and their generic bodies. To blame for a fault, not for a stall.
    Anchor,
}

/// The part that a function of that name has.
#[must_use]
pub fn role(name: &str) -> Role {
    static TABLE: LazyLock<Table> = LazyLock::new(Table::new);
    TABLE.role(name)
}

struct Table {
    exact: FxHashMap<&'static str, Role>,
    prefixes: Vec<(&'static str, Role)>,
}

impl Table {
    fn new() -> Self {
        let mut table = Self { exact: FxHashMap::default(), prefixes: Vec::new() };
        for (role, names) in [
            (Role::CrashPath, CRASH_PATH),
            (Role::Helper, HELPERS),
            (Role::Lock, LOCKS),
            (Role::Wait, WAITS),
            (Role::Allocator, ALLOCATORS),
            (Role::Dispatcher, DISPATCHERS),
            (Role::Entry, ENTRY),
            (Role::Interrupt, INTERRUPTS),
            (Role::Anchor, ANCHORS),
        ] {
            for name in names.split_ascii_whitespace() {
                match name.strip_suffix('*') {
                    Some(prefix) => table.prefixes.push((prefix, role)),
                    None => {
                        table.exact.entry(name).or_insert(role);
                    }
                }
            }
        }
        table
    }

    fn role(&self, name: &str) -> Role {
        if let Some(&role) = self.exact.get(name) {
            return role;
        }
        let longest = self
            .prefixes
            .iter()
            .filter(|(prefix, _)| name.starts_with(prefix))
            .max_by_key(|(prefix, _)| prefix.len());
        longest.map_or(Role::Ordinary, |&(_, role)| role)
    }
}

const CRASH_PATH: &str = "
    panic vpanic __panic nmi_panic panic_other_cpus_shutdown die __die __die_body __die_header die_nmi die_addr die_kernel_fault
    oops_end oops_begin oops_exit oops_enter crash_kexec __crash_kexec machine_kexec relocate_kernel machine_crash_shutdown
    crash_save_cpu crash_setup_regs try_crashdump netpoll_start_netdump netconsole_netdump netdump_* disk_dump start_disk_dump
    scsi_dump_* diskdump_* do_crash_dump __crash_dump lkcd_* dump_execute dump_device_*
    dump_stack dump_stack_lvl __dump_stack dump_trace show_stack show_stack_log_lvl show_trace show_trace_log_lvl
    show_registers show_regs __show_regs show_regs_if_on_stack printk_stack_address dump_backtrace* printk _printk vprintk vprintk_*
    console_unlock console_flush_all
    do_trap do_trap_no_signal do_error_trap do_invalid_op do_divide_error do_general_protection do_double_fault do_int3 do_debug
    do_invalid_TSS do_segment_not_present do_stack_segment do_alignment_check do_coprocessor_error do_simd_coprocessor_error do_bounds
    do_nmi default_do_nmi do_machine_check machine_check_poll io_check_error mem_parity_error unknown_nmi_error pci_serr_error
    invalid_op general_protection divide_error double_fault int3 page_fault error_code error_exit error_entry error_sti stack_segment
    paranoid_exit paranoid_entry nmi nmi_stack_correct end_repeat_nmi nmi_stack_fixup repeat_nmi first_nmi nmi_restore iret_exc
    asm_exc_* exc_* handle_bug handle_invalid_op fixup_bug report_bug __report_bug fixup_exception ex_handler_* fixup_bug*
    gp_try_fixup_and_notify notify_die atomic_notifier_call_chain notifier_call_chain __atomic_notifier_call_chain
    no_context __bad_area_nosemaphore bad_area_nosemaphore bad_area __bad_area pgtable_bad page_fault_oops kernelmode_fixup_or_oops
    do_kern_addr_fault spurious_kernel_fault is_prefetch __is_prefetch bad_area_access_error
    __warn __warn_printk warn_slowpath_* __warn_flushing* check_panic_on_warn
    watchdog_timer_fn is_softlockup softlockup_fn softlockup_tick watchdog_overflow_callback watchdog_hardlockup_check watchdog_check_hardlockup_*
    nmi_watchdog_tick nmi_watchdog_* touch_nmi_watchdog perf_event_overflow __perf_event_overflow x86_pmu_handle_irq intel_pmu_handle_irq*
    handle_pmi_common perf_event_nmi_handler nmi_handle default_do_nmi nmi_cpu_backtrace nmi_cpu_backtrace_handler
    nmi_trigger_cpumask_backtrace arch_trigger_cpumask_backtrace trigger_*backtrace* crash_nmi_callback
    panic_on_* check_hung_task check_hung_uninterruptible_tasks watchdog hung_task_*
    print_cpu_stall print_other_cpu_stall print_other_cpu_stall_* rcu_dump_cpu_stacks rcu_check_callbacks rcu_sched_clock_irq rcu_pending
    check_cpu_stall rcu_check_gp_kthread_* panic_on_rcu_stall rcu_stall_* csd_lock_wait_toolong
    update_process_times tick_sched_handle tick_sched_timer tick_nohz_handler tick_periodic tick_handle_periodic
    kasan_report kasan_report_* __kasan_report print_address_description print_address_description* print_report kasan_end_report end_report kasan_report_invalid_free
    kasan_report_double_free __kasan_slab_free_* report_bug_* kfence_report_error kfence_handle_page_fault check_canary* kmsan_report* kmsan_internal_chain*
    __ubsan_* ubsan_epilogue ubsan_* handle_overflow val_to_string kcsan_report* print_report_* __stack_chk_fail
    print_circular_bug* print_usage_bug* print_deadlock_bug* print_irq_inversion_bug* print_unlock_imbalance_bug* print_bad_irq_dependency* print_bad_contention*
    lockdep_rcu_suspicious debug_show_held_locks print_bug* check_noncircular validate_chain mark_lock mark_lock_irq mark_usage check_prev_add check_prevs_add
    check_deadlock __lock_acquire lock_acquire lock_release __lock_release
    __schedule_bug __might_sleep __might_resched ___might_sleep __might_fault schedule_debug
    bad_page bad_page_reason* print_bad_pte print_bad_page_map check_mm_rss* dump_page __dump_page
    dump_header oom_kill_process warn_alloc warn_alloc_failed out_of_memory pagefault_out_of_memory mem_cgroup_out_of_memory
    slab_bug slab_err slab_pad_check object_err print_trailer slab_fix check_bytes_and_report slab_panic cache_from_obj slab_report* __slab_err kmem_report*
    spin_bug spin_dump rwlock_bug __spin_lock_debug debug_mutex_* 
    skb_panic skb_over_panic skb_under_panic usercopy_abort __check_heap_object __check_object_size check_stack_object check_bogus_address check_heap_object
    fortify_panic __fortify_panic __fortify_report __list_*_report __list_add_valid* __list_del_entry_valid* 
    sysrq_handle_crash sysrq_handle_* __handle_sysrq __handle_sysrq_nolock handle_sysrq write_sysrq_trigger
    mce_panic mce_reign mce_end machine_check do_exit_panic rust_begin_unwind core::panicking::* rust_panic* _R*panicking*
    dev_watchdog* note_interrupt __report_bad_irq report_bad_irq
    smp_send_reboot native_stop_other_cpus stop_this_cpu
";

const HELPERS: &str = "
    list_del list_del_init list_add list_add_tail list_move list_move_tail list_splice* list_for_* __list_add __list_del __list_del_entry __list_add_rcu list_add_rcu list_del_rcu
    list_add_tail_rcu list_empty list_sort merge merge_final hlist_* __hlist_* hlist_del hlist_del_init plist_* klist_* llist_* rb_erase rb_insert_color rb_next rb_prev rb_first rb_last __rb_*
    rb_erase_* rb_insert_* __rb_erase_color rb_replace_node* timerqueue_* interval_tree_* radix_tree_* __radix_tree_* xas_* xa_* __xa_* idr_* ida_* mas_* mt_* mtree_* bitmap_* __bitmap_* find_next_bit find_first_bit _find_*
    refcount_* __refcount_* kref_* kobject_put kobject_get kobject_release kobject_cleanup atomic_* atomic64_* arch_atomic* raw_atomic_* percpu_ref_* lockref_*
    __asan_* kasan_* __kasan_* __hwasan_* check_memory_region* kasan_check_* __kcsan_* __tsan_* __msan_* kmsan_* instrument_* __sanitizer_* kfence_* __kfence_*
    memcpy __memcpy memcpy_orig memcpy_erms __memcpy_* memcpy_* memset __memset memset_orig memset_erms memmove __memmove memcmp memchr memchr_inv memscan __builtin_mem*
    strlen strnlen strcmp strncmp strcpy strncpy strscpy sized_strscpy strlcpy strcat strncat strlcat strchr strrchr strnchr strstr strnstr strsep strcspn strspn strcasecmp strncasecmp string string_nocheck widen_string hex_string
    vsnprintf snprintf sprintf vsprintf scnprintf vscnprintf number pointer format_decode seq_printf seq_vprintf kvasprintf kasprintf kvasprintf_const simple_strto* _parse_integer*
    copy_user_* copy_from_user copy_to_user _copy_from_user _copy_to_user __copy_user* __copy_from_user* __copy_to_user* raw_copy_* rep_movs_alternative rep_stos_alternative clear_user __clear_user __get_user* __put_user* get_user_* put_user_*
    strncpy_from_user strnlen_user do_strncpy_from_user copy_page copy_page_* clear_page clear_page_* clear_user_* copy_mc_* copy_page_to_iter* copy_page_from_iter* _copy_to_iter _copy_from_iter* copyout copyin iov_iter_*
    csum_partial csum_partial_* do_csum crc32* jhash* siphash* sort sort_r bsearch swap
    test_bit set_bit clear_bit test_and_set_bit test_and_clear_bit __test_and_* variable_test_bit constant_test_bit fls ffs cmpxchg* xchg* __cmpxchg* __xchg* __read_once* read_word_at_a_time
    container_of ERR_PTR PTR_ERR IS_ERR offset_to_ptr ptr_* compound_head _compound_head page_to_* virt_to_* __virt_addr_valid __phys_addr*
    debug_object_* __debug_object_* debug_print_object debug_check_no_obj_freed __debug_check_no_obj_freed debug_timer_* debug_rcu_*
    preempt_count_add preempt_count_sub add_preempt_count sub_preempt_count preempt_schedule_notrace ftrace_* __fentry__ mcount function_trace_* trace_*
    cpu_relax rep_nop native_pause delay_tsc delay_tpause delay_halt* delay_mwaitx __delay __const_udelay __udelay __ndelay __loop_delay mwait_delay read_hpet rdtsc rdtsc_ordered native_read_* native_write_* native_irq_* arch_local_irq_* native_safe_halt native_halt pv_native_* __raw_callee_save_*
    __sanitizer_cov_* kcov_* srso_* retbleed_* __x86_indirect_thunk* __x86_return_thunk __x86_* retpoline_* entry_untrain_ret
    bug_at warn_bogus* clocksource_* ktime_get ktime_get_* getnstimeofday* sched_clock* local_clock kvm_clock_* pvclock_*
    device_is_available get_current current_thread_info skb_put skb_push skb_pull skb_put_data skb_headroom
";

const LOCKS: &str = "
    spin_lock* _spin_lock* __spin_lock* _raw_spin_* __raw_spin_* raw_spin_* do_raw_spin_* spin_unlock* _spin_unlock* spin_trylock* native_queued_spin_lock_slowpath queued_spin_lock_slowpath __pv_queued_spin_lock_slowpath pv_wait* kvm_wait kvm_lock_spinning xen_* __ticket_spin_* ticket_spin_* arch_spin_* __pv_* pv_hybrid_* resilient_* resilient_queued_*
    read_lock* write_lock* _read_lock* _write_lock* _raw_read_* _raw_write_* do_raw_read_* do_raw_write_* __raw_read_* __raw_write_* queued_read_lock_slowpath queued_write_lock_slowpath __write_lock_failed __read_lock_failed
    mutex_* __mutex_* _mutex_* ww_mutex_* down down_* __down __down_* ___down_* up up_read up_write __up __up_* rwsem_* __rwsem_* call_rwsem_* percpu_down_* percpu_up_* __percpu_down_* percpu_rwsem_* rt_mutex_* __rt_mutex_* rtlock_* __rtlock_* rt_spin_* rt_read_* rt_write_* rwbase_* task_blocks_on_rt_mutex* osq_lock osq_* mcs_spin_*
    .text.lock.* .text.spinlock __lock_text_start __lock_text_end lock_kernel unlock_kernel _lock_kernel __reacquire_kernel_lock bit_spin_* hlist_bl_lock local_bh_* __local_bh_* lock_sock lock_sock_nested __lock_sock __bh_*
    rtnl_lock rtnl_lock_* rtnl_unlock rtnl_net_lock* __rtnl_* cgroup_lock cpus_read_lock cpus_write_lock get_online_cpus cpu_hotplug_* lock_page* __lock_page* folio_lock* __folio_lock* lock_buffer __lock_buffer seqlock_* read_seq* write_seq* read_seqbegin* lockref_get* mmap_read_lock* mmap_write_lock* inode_lock* inode_lock_shared
    futex_wait_queue futex_wait_queue_me futex_lock_pi __futex_lock_pi
";

const WAITS: &str = "
    schedule __schedule ___schedule schedule_* __schedule_* io_schedule io_schedule_* preempt_schedule preempt_schedule_* cond_resched __cond_resched _cond_resched schedule_timeout* yield context_switch __switch_to __switch_to_asm switch_to thread_return __sched_text_start
    wait_for_completion* __wait_for_common wait_for_common* do_wait_for_common* wait_woken wait_on_bit* __wait_on_bit* out_of_line_wait_on_bit* bit_wait* __wait_event* wait_event* prepare_to_wait* finish_wait do_wait_intr* autoremove_wake_function default_wake_function __wake_up* wake_up* try_to_wake_up complete* swake_up* swait_* sleep_on* interruptible_sleep_on* sleep_on_page* sleep_on_buffer
    folio_wait_bit* __folio_wait_bit* folio_wait_* folio_put_wait_locked __folio_put_wait_locked wait_on_page_bit* wait_on_page_writeback* __wait_on_page_* wait_on_page_* wait_on_buffer __wait_on_buffer wait_on_page_timeout blk_wait_io submit_bio_wait bio_wait*
    synchronize_rcu* synchronize_sched* synchronize_net synchronize_srcu* __synchronize_srcu* synchronize_rcu_expedited* wait_rcu_gp __wait_rcu_gp rcu_barrier* _rcu_barrier* rcu_sync_* exp_funnel_lock rcu_exp_*
    msleep msleep_interruptible usleep_range* fsleep ssleep hrtimer_nanosleep do_nanosleep schedule_hrtimeout* poll_schedule_timeout* do_sleep
    flush_work __flush_work flush_workqueue __flush_workqueue drain_workqueue flush_delayed_work cancel_work_sync cancel_delayed_work_sync __cancel_work_sync __cancel_work_timer __cancel_work flush_rcu_work flush_scheduled_work timer_delete_sync del_timer_sync __timer_delete_sync hrtimer_cancel
    kthread_stop kthread_park kthread_create_on_node __kthread_create_on_node kthread_flush_work congestion_wait* balance_dirty_pages* io_wait_event
    smp_call_function smp_call_function_single smp_call_function_many* smp_call_function_any smp_call_function_interrupt generic_exec_single on_each_cpu* csd_lock_wait* __csd_lock_wait* generic_smp_call_* flush_tlb_* native_flush_tlb_* arch_tlbbatch_flush __smp_call_* stop_machine* stop_cpus* stop_one_cpu* multi_cpu_stop text_poke_bp* text_poke_* smp_text_poke_* arch_jump_label_* static_key_* __static_key_* jump_label_* __jump_label_* arch_static_call_*
";

const ALLOCATORS: &str = "
    kmalloc* __kmalloc* kzalloc* __kvmalloc* kvmalloc* kcalloc kmemdup* kstrdup* kstrndup* krealloc* kfree kfree_* __kfree __kfree_rcu kvfree* kfree_sensitive kzfree kmem_cache_alloc* kmem_cache_free* kmem_cache_destroy kmem_cache_grow kmem_cache_zalloc __kmem_cache_alloc* __kmem_cache_free kmem_cache_size shutdown_cache
    ___slab_alloc __slab_alloc* slab_alloc* __slab_free do_slab_free slab_free* slab_post_alloc_hook slab_pre_alloc_hook new_slab allocate_slab get_partial* get_any_partial free_to_partial_list free_debug_processing alloc_debug_processing free_consistency_checks alloc_consistency_checks alloc_single_from_* get_freepointer* set_freepointer freelist_ptr_* __slab_try_return_freelist unfreeze_partials __unfreeze_partials put_cpu_partial deactivate_slab flush_slab discard_slab check_object check_slab on_freelist cache_alloc_refill cache_grow cache_flusharray cache_free_debugcheck cache_alloc_debugcheck_after ____cache_alloc* __cache_alloc* __cache_free ___cache_free free_block slab_destroy slab_get_obj slab_put_obj kmem_freepages memcg_slab_* __memcg_slab_* barn_* sheaf_* __pcs_* alloc_from_pcs free_to_pcs* rcu_free_sheaf* __kfree_rcu_sheaf
    mempool_alloc mempool_free mempool_alloc_slab mempool_free_slab
    alloc_pages* __alloc_pages* __alloc_pages_nodemask alloc_page* __get_free_pages get_zeroed_page* __alloc_frozen_pages* get_page_from_freelist rmqueue rmqueue_bulk __rmqueue* rmqueue_* buffered_rmqueue prep_new_page free_pages free_unref_* free_hot_cold_page* __free_pages* __free_page free_page free_pages_* free_pcppages_bulk free_one_page __free_one_page expand
    vmalloc* __vmalloc* vfree __vunmap vunmap pcpu_alloc* __alloc_percpu* alloc_percpu free_percpu dma_alloc_* dma_free_* dma_pool_* qlist_free_all qlink_free kasan_quarantine_*
    alloc_skb __alloc_skb kfree_skb* skb_release_* __kfree_skb kfree_skbmem consume_skb sk_skb_reason_drop skb_free_head napi_consume_skb
";

const DISPATCHERS: &str = "
    call_timer_fn expire_timers __run_timers __run_timer_base run_timer_base run_timer_softirq run_timers call_rcu_core timer_softirq* rcu_do_batch rcu_process_callbacks __rcu_process_callbacks rcu_core rcu_core_si rcu_cblist_* rcu_nocb_kthread nocb_cb_* rcu_cpu_kthread invoke_rcu_* srcu_invoke_callbacks rcu_tasks_invoke_cbs kfree_rcu_work kfree_rcu_monitor kvfree_rcu_*
    __hrtimer_run_queues hrtimer_run_queues __run_hrtimer hrtimer_run_softirq hrtimer_interrupt tasklet_action tasklet_action_common* tasklet_hi_action __tasklet_hi_action irq_work_run* irq_work_single irq_work_interrupt
    process_one_work process_scheduled_works worker_thread bh_worker workqueue_softirq_action run_workqueue kthread_worker_fn rescuer_thread
    do_one_initcall do_initcalls do_init_module load_module init_module_from_file __do_sys_init_module __do_sys_finit_module idempotent_init_module __se_sys_finit_module __se_sys_init_module sys_init_module sys_finit_module __x64_sys_finit_module __x64_sys_init_module __do_sys_delete_module sys_delete_module __x64_sys_delete_module free_module
    blocking_notifier_call_chain __blocking_notifier_call_chain raw_notifier_call_chain srcu_notifier_call_chain notifier_call_chain_*
    task_work_run exit_task_work __flush_smp_call_function_queue flush_smp_call_function_queue generic_smp_call_function_single_interrupt sysvec_call_function_single __sysvec_call_function*
    handle_irq_event __handle_irq_event_percpu handle_irq_event_percpu handle_IRQ_event irq_forced_thread_fn irq_thread_fn irq_thread
";

const ENTRY: &str = "
    entry_SYSCALL_64* entry_SYSENTER* entry_INT80* do_syscall_64 do_syscall_x64 x64_sys_call ia32_sys_call do_int80_* do_fast_syscall_32 __do_fast_syscall_32 do_SYSENTER_32 do_syscall_32_irqs_on syscall_* system_call system_call_* sysenter_* sysexit_* tracesys no_timing ia32_sysret cstar_* int_ret_from_sys_call int_signal int_with_check retint_* ret_from_sys_call stub_* auditsys ptregscall_common ret_from_exception resume_userspace
    ret_from_fork* kernel_thread_helper kernel_thread child_rip kthread kthreadd kernel_init kernel_init_freeable rest_init start_kernel x86_64_start_* secondary_startup_64* start_secondary verify_cpu startup_32* common_startup_64 cpu_startup_entry do_idle cpu_idle cpu_idle_* default_idle* arch_cpu_idle call_cpuidle cpuidle_idle_call cpuidle_enter* acpi_idle_* intel_idle* poll_idle mwait_idle* amd_e400_idle acpi_processor_ffh_* smpboot_thread_fn run_ksoftirqd ksoftirqd migration_thread swapper
    exit_to_user_mode* syscall_exit_to_user_mode* do_notify_resume work_notifysig 0x* init
";

const INTERRUPTS: &str = "
    asm_sysvec_* sysvec_* __sysvec_* asm_common_interrupt common_interrupt __common_interrupt asm_call_* call_irq_handler do_IRQ __do_IRQ handle_irq call_do_IRQ ret_from_intr reschedule_interrupt apic_timer_interrupt smp_apic_timer_interrupt local_apic_timer_interrupt call_function_interrupt call_call_function_interrupt irq_entries_start irq_exit irq_exit_rcu __irq_exit_rcu do_softirq do_softirq_own_stack __do_softirq handle_softirqs call_softirq invoke_softirq smp_* xen_hvm_* xen_evtchn_* hyperv_* fred_* asm_fred_* handle_edge_irq handle_fasteoi_irq handle_level_irq handle_percpu_irq generic_handle_irq* el1h_* el1_* el0_* gic_handle_irq handle_domain_irq handle_IPI arch_timer_handler_* kgdb_*
";

const ANCHORS: &str = "
    vfs_* ksys_* __x64_sys_* __ia32_sys_* __do_sys_* __se_sys_* __do_compat_sys_* __sys_* ___sys_* SyS_* SYSC_* sys_* compat_sys_* do_sys_open* do_sys_openat2 do_vfs_ioctl do_writev do_readv new_sync_* do_sync_* do_iter_* __vfs_* do_filp_open path_openat link_path_walk do_execve* do_exit do_group_exit get_signal do_signal arch_do_signal_or_restart do_fork _do_fork kernel_clone copy_process proc_reg_* seq_read seq_read_iter kernfs_* sock_sendmsg sock_recvmsg __sock_* ____sys_* sock_ioctl do_page_fault do_user_addr_fault handle_mm_fault __handle_mm_fault handle_pte_fault do_mount path_mount
    net_rx_action process_backlog __netif_receive_skb* netif_receive_skb* __napi_poll napi_poll kswapd blk_done_softirq __fput fput ____fput task_numa_work
";
