# SPDX-License-Identifier: LGPL-2.1-or-later
# What hosts do to their pools, step by step. After each step the guest says its name, and stands still
# long enough to be stopped and dumped.
NODES=/sys/devices/system/node
BLOCKS=/sys/devices/system/memory

# step NAME: says that a step is done.
step() {
	say step "$1 $(cat $NODES/node*/hugepages/*/nr_hugepages | tr '\n' ' ')"
	sleep 3
}

# skip NAME WHY: says that this kernel cannot take a step.
skip() {
	say skipped "$*"
}

# set_pool NODE KILOBYTES COUNT: asks for a pool of this size; what it gets is the kernel's affair.
set_pool() {
	echo "$3" > "$NODES/node$1/hugepages/hugepages-$2kB/nr_hugepages"
}

# first free|used [NODE]: PFN of the first such folio; node 1 begins at 4 GiB of memory.
first() {
	folios | sed -n "s/ $1\$//p" | head -n 1
}

# offline PFN: takes the block of memory of a folio out of service, if the kernel lets it go.
offline() {
	block=$BLOCKS/memory$(($1 / (0x$(cat $BLOCKS/block_size_bytes) / 4096)))
	echo offline > "$block/state" && say offlined "${block##*/}"
}

say vmcoreinfo "$(cat /sys/kernel/vmcoreinfo)"
step boot

set_pool 0 2048 60
set_pool 1 2048 60
step grow

optimize 0
set_pool 0 2048 70
set_pool 1 2048 70
optimize 1
step grow-without-optimizing

use 2048 20
step use

set_pool 0 2048 15
set_pool 1 2048 15
step shrink

set_pool 0 2048 40
set_pool 1 2048 40
step grow-again

if [ -e $NODES/node1/hugepages/hugepages-1048576kB/demote ]; then
	for node in 0 1; do
		if [ "$(cat $NODES/node$node/hugepages/hugepages-1048576kB/nr_hugepages)" != 0 ]; then
			echo 1 > $NODES/node$node/hugepages/hugepages-1048576kB/demote
		fi
	done
	step demote
else
	skip demote "no demote in sysfs"
fi
set_pool 0 2048 40
set_pool 1 2048 40
step shrink-what-was-demoted

for node in 0 1; do set_pool $node 1048576 1; done
step gigantic
for node in 0 1; do set_pool $node 1048576 0; done
step gigantic-given-back

perl /churn.pl 1 &
churn=$!
sleep 8
step migrate
kill $churn
wait $churn
step migrated

mkdir -p /mnt/subpool
mount -t hugetlbfs -o pagesize=2M,size=16M,min_size=8M hugetlbfs /mnt/subpool
fallocate -l 4M /mnt/subpool/some
step subpool

mkdir -p /mnt/cgroup
if mount -t cgroup2 cgroup2 /mnt/cgroup && echo +hugetlb > /mnt/cgroup/cgroup.subtree_control; then
	mkdir /mnt/cgroup/limited
	echo 8M > /mnt/cgroup/limited/hugetlb.2MB.max
	(echo 0 > /mnt/cgroup/limited/cgroup.procs
	fallocate -l 6M /mnt/2048/limited
	fallocate -l 20M /mnt/2048/beyond) 2> /dev/null
	step cgroup
else
	skip cgroup "no hugetlb controller"
fi

echo 8 > /proc/sys/vm/nr_overcommit_hugepages
fallocate -l 2000M /mnt/2048/surplus 2> /dev/null
step surplus
rm /mnt/2048/surplus
echo 0 > /proc/sys/vm/nr_overcommit_hugepages
step surplus-given-back

if [ -e $BLOCKS/block_size_bytes ]; then
	offline "$(first free)"
	offline "$(folios | sed -n 's/ free$//p' | tail -n 1)"
	step offline
	grep -l offline $BLOCKS/memory*/state | while read -r state; do echo online > "$state"; done
	set_pool 0 2048 50
	set_pool 1 2048 50
	step online
else
	skip offline "no memory blocks in sysfs"
fi

if [ -e $BLOCKS/hard_offline_page ]; then
	for state in free used; do
		echo $((($(first $state) + 3) << 12)) > $BLOCKS/soft_offline_page
		echo $((($(first $state) + 70) << 12)) > $BLOCKS/hard_offline_page
	done
	step poison
	set_pool 0 2048 20
	set_pool 1 2048 20
	step poison-and-shrink
else
	skip poison "no CONFIG_MEMORY_FAILURE"
fi

# Code that moves pages oopses where a restore left heads; see vmcores/README.md.
case $(uname -r) in
6.12.*) skip compact "its compaction oopses" ;;
*)
	echo 1 > /proc/sys/vm/compact_memory
	step compact
	;;
esac

# Nearly all memory in the pools, the rest filled: a restore finds none for the vmemmap.
mkdir -p /mnt/fill
mount -t tmpfs -o size=200% tmpfs /mnt/fill
perl /exhaust.pl
umount /mnt/fill
set_pool 0 2048 20
set_pool 1 2048 20
step memory-again

rm -f /mnt/2048/* /mnt/subpool/*
set_pool 0 2048 0
set_pool 1 2048 0
step empty
say done 1
