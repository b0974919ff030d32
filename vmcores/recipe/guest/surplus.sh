# SPDX-License-Identifier: LGPL-2.1-or-later
# More folios in use than the pool has.
grow 0 2048 8
echo 8 > /proc/sys/vm/nr_overcommit_hugepages
use 2048 16
# A large folio that several processes map, as of a program.
mkdir /mnt/program
mount -t tmpfs -o huge=always tmpfs /mnt/program
cp /bin/busybox /mnt/program
for process in 1 2 3 4; do
	/mnt/program/busybox sleep 10000 &
done
sleep 1
