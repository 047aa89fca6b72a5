# SPDX-License-Identifier: MIT OR Apache-2.0
# Read by init in the scenario `memory`: where memory can go without the kernel's doing.
echo 0 >/proc/sys/kernel/hung_task_timeout_secs
mount -t cgroup2 none /sys/fs/cgroup; echo "+memory +pids" >/sys/fs/cgroup/cgroup.subtree_control
mkdir /tmp/v1; mount -t cgroup -o none,name=lab none /tmp/v1 && mkdir -p /tmp/v1/older/inner && echo $$ >/tmp/v1/older/cgroup.procs
dd if=/dev/zero of=/tmp/eater bs=1M count=80 2>/dev/null    # tmpfs, in no file system that `df` of a disk shows

group=/sys/fs/cgroup/limited; mkdir $group $group/inner
echo "+memory +pids" >$group/cgroup.subtree_control
echo 24M >$group/memory.max; echo 0 >$group/memory.swap.max; echo 40 >$group/pids.max
hog steady 16 $group/inner &
sleep 1
hog victim 64 $group/inner        # the kernel kills one of the two: the limit is 24 MiB
hog steady 4 $group/inner &
hog plain 12 /sys/fs/cgroup &
sleep 1
# The page cache fills what is left of the limit.
(echo 0 >$group/inner/cgroup.procs; exec dd if=/dev/zero of=/data/filler bs=1M count=32 2>/dev/null); sync

# A group that was removed while a page of it is still in use.
mkdir /sys/fs/cgroup/gone; hog leaver 2 /sys/fs/cgroup/gone; rmdir /sys/fs/cgroup/gone
hog file 3 /data/known            # 3 MiB and a bit of known content, all in the page cache
cat /data/known >/dev/null
