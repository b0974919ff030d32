# SPDX-License-Identifier: LGPL-2.1-or-later
# The command that a guest watches: stress.sh interrupted|broken. It resizes the pool of 2 MiB folios; as
# "interrupted" until it has interrupted its parent, as "broken" until that has left a vmcore.

# resize: the pool grows and shrinks; one folio of it is in use. The pauses leave the processor to the
# one who watches.
resize() {
	for count in $((2 + RANDOM % 40)) $((2 + RANDOM % 10)); do
		echo $count > /proc/sys/vm/nr_hugepages
		usleep 50000
	done
}

# passes: prints how many lines the passes so far have written, one for each of two sizes.
passes() {
	grep -c . /tmp/output
}

interrupted() {
	trap 'exit 9' INT
	until [ "$(passes)" -ge 4 ]; do resize; done
	cut -d' ' -f1 /proc/uptime > /tmp/signalled
	kill -INT $PPID
	while :; do resize; done
}

broken() {
	until [ "$(passes)" -ge 2 ]; do resize; done
	# What a pass finds out about the kernel, it finds out anew.
	echo 0 > /proc/sys/vm/hugetlb_optimize_vmemmap
	printf 'halfway\t1\n' > /dev/ttyS1
	until [ -n "$(ls /tmp/extract)" ]; do resize; done
}

"$1"
