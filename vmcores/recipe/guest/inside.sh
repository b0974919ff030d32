# SPDX-License-Identifier: LGPL-2.1-or-later
# As basic; then the guest looks at itself through /proc/kcore, without debuginfo and by two doors: the
# tool's own command, and drgn's with the tool as its script.
. /basic.sh
export PATH=$PATH:/usr/bin
for door in "python3 /drgn_vmemmap -k --no-default-symbols" \
	"drgn -q -k --no-default-symbols /drgn_vmemmap"; do
	$door --folios --format json > /tmp/report 2> /tmp/errors || fail "$door: $(cat /tmp/errors)"
	say inside "$(tr -d '\n' < /tmp/report)"
done
