#!/bin/busybox sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# The guest's init: mounts file systems, loads modules, runs the scenario, and stays until QEMU quits.
/bin/busybox --install -s /bin
export PATH=/sbin:/bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
dmesg -n 1

# Console: for people. Second serial port: for the recipe, one "KEY<tab>VALUE" per line.
exec < /dev/console > /dev/console 2>&1
stty -F /dev/ttyS1 raw
exec 3> /dev/ttyS1

while read -r module; do
	insmod "/modules/$module.ko" || echo "module $module: refused"
done < /modules/order

. /lib.sh
[ ! -e /proc/vmcore ] || . /crashed.sh
. /scenario.sh
account
say ready 1
! type live > /dev/null 2>&1 || live
while :; do sleep 3600; done
