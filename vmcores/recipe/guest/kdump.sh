# SPDX-License-Identifier: LGPL-2.1-or-later
# As basic; then a crash kernel is loaded, which runs when an unknown NMI makes this one panic.
. /basic.sh
echo 1 > /proc/sys/kernel/unknown_nmi_panic
find / -xdev | grep -v ^/vmlinuz | cpio -o -H newc > /tmp/initrd 2> /dev/null
kexec -p /vmlinuz --initrd=/tmp/initrd \
	--append="console=ttyS0 panic=-1 nr_cpus=1 reset_devices" || fail "kexec"
