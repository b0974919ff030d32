# SPDX-License-Identifier: LGPL-2.1-or-later
# The kernel takes a reference to a tail page of an optimized folio, or tries to: a debugger makes a
# sysctl point at that page's _refcount, and it is written here. The kernel oopses and goes on.
SYSCTL=/proc/sys/vm/oom_dump_tasks

# symbol NAME: prints where the kernel has it.
symbol() {
	address=$(sed -n "s/^\([0-9a-f]*\) . $1\$/0x\1/p" /proc/kallsyms)
	[ -n "$address" ] || fail "the kernel has no $1"
	echo "$address"
}

grow 0 2048 64
pfn=$(folios | sed -n '1s/ .*//p')
say stray "$(symbol vm_oom_kill_table) $(symbol sysctl_oom_dump_tasks) $(symbol vmemmap_base) $pfn"
# By itself the sysctl is 1; a tail page has no references.
until [ "$(cat $SYSCTL)" = 0 ]; do sleep 0.1; done
(echo 1 > $SYSCTL)
dmesg | sed -n '/BUG: unable to handle/,/end trace/p' | while read -r line; do say oops "$line"; done
