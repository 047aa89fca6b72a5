# SPDX-License-Identifier: MIT OR Apache-2.0
# Read by init in the scenario `blocked`, before the program `blocked`.
echo 0 >/proc/sys/kernel/hung_task_timeout_secs; echo 0 >/proc/sys/kernel/softlockup_panic
# The first of two hosts is to handle errors, the queue of the second is to freeze: neither does anything in time.
modprobe scsi_debug delay=0 add_host=2 num_tgts=1 dev_size_mb=8
for module in sd_mod loop dm-mod xfs btrfs nfsv3 nfsv4; do modprobe $module; done
mkdir -p /dev/mapper /tmp/xfs /tmp/btrfs /tmp/nfs3 /tmp/nfs4
truncate -s 320M /tmp/xfs.image; losetup /dev/loop0 /tmp/xfs.image
truncate -s 160M /tmp/btrfs.image; losetup /dev/loop1 /tmp/btrfs.image
mkfs.xfs -q -f -i nrext64=0,exchange=0 -n parent=0 /dev/loop0
mkfs.btrfs -q -f /dev/loop1
sleep 2
blocked &
for second in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30; do [ -e /tmp/stuck-is-ready ] || sleep 1; done
# A few system calls, function by function; what was noted is written down with the truth.
mount -t tracefs none /sys/kernel/tracing; cd /sys/kernel/tracing
echo 0 >tracing_on; echo function_graph >current_tracer; echo do_sys_openat2 >set_graph_function; echo 1 >tracing_on
cat /proc/version >/dev/null; echo 0 >tracing_on; cd /
