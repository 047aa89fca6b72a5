# SPDX-License-Identifier: MIT OR Apache-2.0
# Read by init in the scenario `stuck`, before the program `stuck`.
echo 0 >/proc/sys/kernel/hung_task_timeout_secs
modprobe scsi_debug delay=0 num_tgts=2 dev_size_mb=8
for module in nvme raid1 sd_mod loop dm-mod dm-multipath dm-round-robin dummy veth sch_netem nf_tables nft_ct; do modprobe $module; done
ip link add lossy type veth; ip addr add 10.1.0.1/24 dev lossy; ip link set lossy up    # its peer is veth0
busybox unshare -n sleep 100000 & peer=$!
sleep 1; ip link set veth0 netns $peer
inside="busybox nsenter -t $peer -n"
$inside ip addr add 10.1.0.2/24 dev veth0; $inside ip link set veth0 up; $inside ip link set lo up
sleep 100000 | $inside nc -l -p 7000 >/dev/null &
ip addr add 10.2.0.1/24 dev dummy0; ip link set dummy0 up; ip route add default via 10.0.2.2
ip route add 10.3.0.0/16 via 10.1.0.2; ip route add blackhole 10.4.0.0/16
ip -6 addr add fd00:1::1/64 dev lossy; ip -6 route add fd00:2::/48 via fd00:1::2
dd if=/dev/zero of=/tmp/held bs=1M count=8 2>/dev/null; losetup /dev/loop0 /tmp/held
for number in 1 2; do dd if=/dev/zero of=/tmp/half$number bs=1M count=4 2>/dev/null; losetup /dev/loop$number /tmp/half$number; done
sleep 2
stuck &
for second in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do [ -e /tmp/stuck-is-ready ] || sleep 1; done
