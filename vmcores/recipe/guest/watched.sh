# SPDX-License-Identifier: LGPL-2.1-or-later
# A pool that the guest itself watches while a command resizes it; for boot, as a debugger has to break
# something half-way.
export PATH=$PATH:/usr/bin

# live: watches, and says the exit code, both outputs, and what the vmcore that was left shows.
live() {
	mkdir /tmp/extract
	python3 /drgn_vmemmap -k --no-default-symbols watch --format jsonl --extract /tmp/extract \
		-- sh /stress.sh > /tmp/output 2> /tmp/errors
	code=$?
	now=$(cut -d' ' -f1 /proc/uptime)
	while IFS= read -r line; do say output "$line"; done < /tmp/output
	while IFS= read -r line; do say errors "|$line"; done < /tmp/errors
	say watched "$code $(cat /tmp/signalled) $now"
	set -- /tmp/extract/*
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
