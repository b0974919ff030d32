# SPDX-License-Identifier: LGPL-2.1-or-later
# As basic; then processes map folios: one its own, two the same file's.

# hold COUNT [FILE]: a process maps so many folios of 2 MiB, of a file or of its own, for good.
hold() {
	perl /hold.pl "$@" &
	until grep -q "^HugetlbPages:[^0-9]*$(($1 * 2048)) kB" /proc/$!/status; do
		[ -e /proc/$! ] || fail "hold $*: it ended"
		sleep 1
	done
	say owner "$! $1 ${2##*/}"
}

. /basic.sh
hold 3
hold 2 /mnt/2048/mapped
hold 2 /mnt/2048/mapped
