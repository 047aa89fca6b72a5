# SPDX-License-Identifier: MIT OR Apache-2.0
# Read by init in the scenario `rich`, before the program `rich`: what a shell sets up with less effort.
echo 0 >/proc/sys/kernel/hung_task_timeout_secs; echo -1 >/proc/sys/kernel/sched_rt_runtime_us
echo 16 >/proc/sys/vm/nr_hugepages; echo 1 >/sys/kernel/mm/ksm/run
for module in loop dummy veth overlay lzo-rle; do modprobe $module; done

for place in /dev/pts /dev/hugepages /dev/mqueue /tmp/lower /tmp/upper /tmp/work /tmp/merged /tmp/bind /tmp/ext2; do
  mkdir -p $place
done
mount -t devpts devpts /dev/pts; mount -t hugetlbfs none /dev/hugepages; mount -t mqueue none /dev/mqueue
mount -t debugfs none /sys/kernel/debug; mount -t tracefs none /sys/kernel/tracing; mount -t bpf none /sys/fs/bpf
mount -t cgroup2 none /sys/fs/cgroup
mount -t overlay overlay -o lowerdir=/tmp/lower,upperdir=/tmp/upper,workdir=/tmp/work /tmp/merged
mount --bind /data /tmp/bind; mount -o remount,bind,ro /tmp/bind

echo "+cpu +memory +pids" >/sys/fs/cgroup/cgroup.subtree_control; mkdir /sys/fs/cgroup/rich
echo "+cpu" >/sys/fs/cgroup/rich/cgroup.subtree_control; mkdir /sys/fs/cgroup/rich/inner /sys/fs/cgroup/rich/other
echo 200 >/sys/fs/cgroup/rich/cpu.weight; echo "90000 100000" >/sys/fs/cgroup/rich/inner/cpu.max

dd if=/dev/zero of=/data/disk bs=1M count=8 2>/dev/null; losetup /dev/loop0 /data/disk
dd if=/dev/zero of=/data/other bs=1M count=8 2>/dev/null; losetup /dev/loop1 /data/other
mke2fs -q /dev/loop0; mount -t ext4 /dev/loop0 /tmp/ext2; echo content >/tmp/ext2/file
echo 32M >/sys/block/zram0/disksize; mkswap /dev/zram0 >/dev/null

ip addr add 10.9.0.1/24 dev dummy0; ip link set dummy0 up
ip link add dummy1 type dummy; ip link set dummy1 up
ip link add vpair type veth; ip addr add 10.8.0.1/24 dev vpair; ip link set vpair up    # its peer is veth0
brctl addbr br0; brctl addif br0 dummy1; ip link set br0 up; ip addr add 10.7.0.1/24 dev br0
tunctl -t tap0 >/dev/null; ip link set tap0 up
ip route add default via 10.0.2.2

cd /sys/kernel/tracing; echo vfs_fsync do_epoll_wait >set_ftrace_filter; echo function >current_tracer
echo 1 >events/sched/sched_process_exit/enable; echo "rich was here" >trace_marker; cd /
mkfifo /tmp/rich-gate; rich &
for second in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do [ -e /tmp/rich-is-ready ] || sleep 1; done
