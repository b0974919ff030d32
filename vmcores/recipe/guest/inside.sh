# SPDX-License-Identifier: LGPL-2.1-or-later
# As basic; then the guest looks at itself through /proc/kcore, without debuginfo, by two commands: the
# tool's own, and drgn's with the tool as its script. At last it may not: as another user, and
# then locked down.
. /basic.sh
export PATH=$PATH:/usr/bin
for command in "python3 /drgn_vmemmap -k --no-default-symbols" \
	"drgn -q -k --no-default-symbols /drgn_vmemmap"; do
	$command --folios --format json > /tmp/report 2> /tmp/errors || fail "$command: $(cat /tmp/errors)"
	say inside "$(tr -d '\n' < /tmp/report)"
done

# refused COMMAND: says how the command ended, and its lines.
refused() {
	"$@" > /tmp/report 2>&1
	say refused "$? $(tr '\n' '|' < /tmp/report)"
}
refused python3 -c 'import os; os.setuid(65534); os.execlp("python3", "python3", "/drgn_vmemmap", "-k")'
mount -t securityfs securityfs /sys/kernel/security
echo confidentiality > /sys/kernel/security/lockdown
refused python3 /drgn_vmemmap -k
