# SPDX-License-Identifier: LGPL-2.1-or-later
# The crash kernel: writes the dumps that people make, one to each disk.
makedumpfile -f -l -d 31 /proc/vmcore /dev/vda && say dumped lzo
makedumpfile -f -c -d 0 /proc/vmcore /dev/vdb && say dumped zlib
makedumpfile -f -E -d 31 /proc/vmcore /dev/vdc && say dumped elf
sync
while :; do sleep 3600; done
