# SPDX-License-Identifier: LGPL-2.1-or-later
# Processes are charged for memory, time and again, and pools grow into what they gave back.
mount -t cgroup2 cgroup2 /sys/fs/cgroup || fail "no cgroups"
echo +memory > /sys/fs/cgroup/cgroup.subtree_control || fail "memory is not charged for"
stays=/sys/fs/cgroup/stays
ends=/sys/fs/cgroup/ends
mkdir -p $stays $ends /mnt/files
mount -t tmpfs tmpfs /mnt/files

# charge GROUP PROCESSES SECONDS MEGABYTES: processes and a file of a group's.
charge() {
	(
		echo 0 > "$1/cgroup.procs"
		dd if=/dev/zero of="/mnt/files/${1##*/}" bs=1M count="$4" 2> /dev/null
		for _ in $(seq "$2"); do
			sleep "$3" | sleep "$3" &
		done
	)
}

for _ in 1 2; do
	charge $ends 20 1 150
	until [ -z "$(cat $ends/cgroup.procs)" ]; do sleep 1; done
	rm /mnt/files/ends
	echo 100 > /proc/sys/vm/nr_hugepages
	echo 0 > /proc/sys/vm/nr_hugepages
done
charge $stays 20 100000 20
. /basic.sh
say charged "$(awk '/^(kernel_stack|pagetables) / { sum += $2 } END { print sum }' $stays/memory.stat)"
