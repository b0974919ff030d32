# SPDX-License-Identifier: LGPL-2.1-or-later
# What the scenarios' scripts have in common.

OPTIMIZE=/proc/sys/vm/hugetlb_optimize_vmemmap

# say KEY VALUE: reports something to the recipe.
say() {
	printf '%s\t%s\n' "$1" "$2" >&3
}

# fail WORDS: ends the scenario.
fail() {
	say failed "$*"
	while :; do sleep 3600; done
}

# optimizing: prints whether folios made now are optimized: 1, 0, or - where the kernel has no switch.
optimizing() {
	cat $OPTIMIZE 2> /dev/null || echo -
}

# optimize 0|1: switches the optimization of folios made from now on.
optimize() {
	[ ! -e $OPTIMIZE ] || echo "$1" > $OPTIMIZE
}

# grow NODE KILOBYTES COUNT: adds folios of this size to a node's pool, and says how many it got.
grow() {
	pool=/sys/devices/system/node/node$1/hugepages/hugepages-$2kB/nr_hugepages
	before=$(cat "$pool")
	echo $((before + $3)) > "$pool"
	got=$(($(cat "$pool") - before))
	say grown "$1 $2 $got $(optimizing)"
	[ "$got" = "$3" ] || fail "grow $*: got $got"
}

# use KILOBYTES COUNT: takes folios of this size into use, for good.
use() {
	mkdir -p "/mnt/$1"
	mount -t hugetlbfs -o "pagesize=$1K" hugetlbfs "/mnt/$1"
	fallocate -l $(($1 * $2 * 1024)) "/mnt/$1/used" || fail "use $*"
	say used "$1 $2"
}

# folios: prints "PFN free|used|poisoned" of each HugeTLB folio, by the flags of its head page.
folios() {
	# The flags of every 512th page: the least at which a folio begins. Bits: 15 head, 17 HugeTLB,
	# 3 up to date, as a page of a file is, 19 poisoned; all are in the first 4 bytes.
	pfn=0
	hexdump -v -e '1/4 "%x\n" 4092/1 ""' /proc/kpageflags | while read -r flags; do
		flags=$((0x$flags))
		if [ $((flags & 0x28000)) = $((0x28000)) ]; then
			state=free
			[ $((flags & 0x8)) = 0 ] || state=used
			[ $((flags & 0x80000)) = 0 ] || state=poisoned
			echo "$pfn $state"
		fi
		pfn=$((pfn + 512))
	done
}

# account: says all that the kernel itself knows about its pools and its memmap.
account() {
	say release "$(uname -r)"
	say command_line "$(cat /proc/cmdline)"
	say optimizing "$(optimizing)"
	say la57 "$(grep -c -w la57 /proc/cpuinfo)"
	# Some lines of a System.map: all would take the serial port long. Strings are found faster in
	# it than expressions.
	grep -F -e BTF -e hstate -e max_pfn -e mem_section -e node_data -e vmemmap_base /proc/kallsyms |
		grep -E ' (__st(art|op)_BTF|hstates|hugetlb_max_hstate|max_pfn|mem_section|node_data|vmemmap_base)$' |
		while read -r line; do say symbol "$line"; done
	say vmcoreinfo "$(cat /sys/kernel/vmcoreinfo)"
	[ ! -e /sys/firmware/qemu_fw_cfg ] || say fw_cfg yes
	for pool in /sys/devices/system/node/node*/hugepages/*; do
		node=${pool#/sys/devices/system/node/node}
		kilobytes=${pool##*hugepages-}
		set -- $(cat "$pool/nr_hugepages" "$pool/free_hugepages" "$pool/surplus_hugepages")
		say hugepages "${node%%/*} ${kilobytes%kB} $*"
	done
	folios | while read -r line; do say folio "$line"; done
	grep -E '^nr_memmap|^hwpoison' /proc/vmstat | while read -r line; do say vmstat "$line"; done
	grep -E '^(MemTotal|HugePages|Hugetlb|HardwareCorrupted)' /proc/meminfo |
		while read -r line; do say meminfo "$line"; done
	dmesg | grep -i -E 'hugetlb|vmemmap|HVO|crashkernel|hwpoison|Memory failure|dax|nd_pmem' |
		while read -r line; do say log "$line"; done
}
