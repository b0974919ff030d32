# SPDX-License-Identifier: LGPL-2.1-or-later
# Pools that never stand still: once all is accounted for, everything that moves folios runs.
NODES=/sys/devices/system/node

# set_pool NODE KILOBYTES COUNT: asks for a pool of this size; what it gets is the kernel's affair.
set_pool() {
	echo "$3" > "$NODES/node$1/hugepages/hugepages-$2kB/nr_hugepages"
}

# stale: tells whether a page of a folio that was given back still has the head's type, as v6.12.117 leaves
# the first struct page of each vmemmap page. Migration to such a page, as by compaction, oopses.
stale() {
	set_pool 0 2048 2
	pfn=$(folios | sed -n 's/ free//p')
	set_pool 0 2048 1
	flags=$(od -An -t x8 -j $(((pfn + 64) * 8)) -N 8 /proc/kpageflags | tr -d ' ')
	[ $((0x$flags & 0x20000)) != 0 ] # KPF_HUGE
}

# resize: grows and shrinks the pools of 2 MiB on both nodes, optimizing or not.
resize() {
	while :; do
		optimize $((RANDOM % 4 > 0))
		set_pool $((RANDOM % 2)) 2048 $((RANDOM % 300))
	done
}

# gigantic: makes folios of 1 GiB, and splits them into those of 2 MiB or gives them back.
gigantic() {
	while :; do
		set_pool 1 1048576 $((1 + RANDOM % 3))
		sleep 1
		[ $((RANDOM % 2)) = 0 ] || echo 1 > $NODES/node1/hugepages/hugepages-1048576kB/demote
		set_pool 1 1048576 0
	done
}

# compact: has the kernel tidy up, for which it moves other pages about.
compact() {
	while sleep 5; do
		echo 1 > /proc/sys/vm/compact_memory
	done
}

# soften: takes pages of folios out of service, whether in use or not. Each costs 4 KiB for good, and
# 2 MiB of what the pools can have, so not many.
soften() {
	[ -e /sys/devices/system/memory/soft_offline_page ] || return
	for count in $(seq 50); do
		sleep 2
		pfn=$(folios | grep -v "^$kept " | shuf -n 1 | cut -d' ' -f1)
		[ -z "$pfn" ] || echo $(((pfn + count) << 12)) > /sys/devices/system/memory/soft_offline_page
	done
}

# live: all of this, for ever. Init calls it after its last word. Each second it says the pools' sizes
# (node 0: 1 GiB, 2 MiB; node 1), how many pages were migrated and how many kilobytes soft-offlined.
live() {
	for seed in 1 2; do perl /churn.pl $seed & done
	{ resize & gigantic & soften & } 2> /dev/null
	[ -n "$stale" ] || { compact & }
	while :; do
		sleep 1
		migrated=$(sed -n 's/^pgmigrate_success //p' /proc/vmstat)
		corrupted=$(sed -n 's/^HardwareCorrupted: *//p' /proc/meminfo)
		say alive "$(cat $NODES/node*/hugepages/*/nr_hugepages | tr '\n' ' ')$migrated ${corrupted% kB}"
	done
}

# One folio stays in use, and where it is: when the last optimized one goes, the kernel may patch its
# own code, which QEMU's emulation of two processors does not always survive.
set_pool 0 2048 1
use 2048 1
kept=$(folios | sed -n 's/ used//p')
say kept "$kept"
if stale; then
	stale=yes
	say stale yes
fi
set_pool 1 1048576 2
set_pool 0 2048 100
set_pool 1 2048 100
