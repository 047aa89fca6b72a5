# SPDX-License-Identifier: MIT OR Apache-2.0
# Read by init in the scenario `traced`: probes and events of each kind, noted by two instances of tracing.
echo 0 >/proc/sys/kernel/hung_task_timeout_secs
mount -t debugfs none /sys/kernel/debug; mount -t tracefs none /sys/kernel/tracing
cd /sys/kernel/tracing
echo 'p:lab/opened do_sys_openat2 dfd=%di:s32 path=+0(%si):ustring' >kprobe_events
echo 'r:lab/was_opened do_sys_openat2 result=$retval' >>kprobe_events
echo 1 >events/lab/enable
echo 'common_pid > 1' >events/sched/sched_process_fork/filter; echo 1 >events/sched/sched_process_fork/enable
echo 1 >events/sched/sched_process_exec/enable; echo stacktrace >events/sched/sched_process_exec/trigger
mkdir instances/spy; cd instances/spy; echo 40 >buffer_size_kb
for event in sched/sched_switch sched/sched_waking irq/softirq_raise timer/timer_start timer/hrtimer_start \
    kmem/mm_page_alloc syscalls/sys_enter_openat syscalls/sys_exit_openat writeback/writeback_dirty_inode \
    block/block_rq_issue ext4/ext4_da_write_begin; do
  echo 1 >events/$event/enable
done
cd /; cat /proc/version >/dev/null; ls /sys/kernel/tracing >/dev/null; dd if=/dev/zero of=/data/traced bs=4k count=8; sync; sleep 1
