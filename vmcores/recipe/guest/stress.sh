# SPDX-License-Identifier: LGPL-2.1-or-later
# The command that a guest watches: it resizes the pool of 2 MiB folios. After a first pass it waits for a
# debugger to break something; when a vmcore of that was written, it interrupts the one who watches.

# resize: the pool grows and shrinks; one folio of it is in use. The pauses leave the processor to the
# one who watches.
resize() {
	for count in $((2 + RANDOM % 40)) $((2 + RANDOM % 10)); do
		echo $count > /proc/sys/vm/nr_hugepages
		usleep 50000
	done
}

trap 'exit 9' INT
# A pass writes a line for each of two sizes.
until [ "$(grep -c . /tmp/output)" -ge 2 ]; do resize; done
# What a pass finds out about the kernel, it finds out anew.
echo 0 > /proc/sys/vm/hugetlb_optimize_vmemmap
printf 'halfway\t1\n' > /dev/ttyS1
until grep -q '^written: ' /tmp/errors; do resize; done
cut -d' ' -f1 /proc/uptime > /tmp/signalled
kill -INT $PPID
while :; do resize; done
