# SPDX-License-Identifier: LGPL-2.1-or-later
# A pool that the guest itself watches while a command resizes it; for boot, as a debugger has to break
# something half-way.
export PATH=$PATH:/usr/bin
DIRECTORY=/tmp/extract

# watched WORDS: watches while the stress test runs; says the exit code, and both outputs line by line.
watched() {
	mkdir -p $DIRECTORY
	python3 /drgn_vmemmap -k --no-default-symbols watch --format jsonl --extract $DIRECTORY \
		-- sh /stress.sh "$@" > /tmp/output 2> /tmp/errors
	code=$?
	now=$(uptime)
	while IFS= read -r line; do say "$1_output" "$line"; done < /tmp/output
	while IFS= read -r line; do say "$1_errors" "|$line"; done < /tmp/errors
	say "$1" "$code $now"
}

# uptime: prints the seconds since boot.
uptime() {
	cut -d' ' -f1 /proc/uptime
}

# live: watches a sound pool until it is interrupted, then one that breaks; says what the vmcore shows.
live() {
	watched interrupted
	say signalled "$(cat /tmp/signalled)"
	watched broken
	set -- $DIRECTORY/vmcore-*
	say extract "$# ${1##*/} $(stat -c %s "$1")"
	python3 /drgn_vmemmap -c "$1" verify --format json > /tmp/output 2> /tmp/errors
	say verified $?
	say report "$(tr -d '\n' < /tmp/output)"
	say done 1
}

# This folio stays where it is, and in use.
grow 0 2048 1
use 2048 1
say kept "$(folios | sed -n 's/ used//p')"
