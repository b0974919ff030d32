# SPDX-License-Identifier: LGPL-2.1-or-later
# More folios in use than the pool has.
grow 0 2048 8
echo 8 > /proc/sys/vm/nr_overcommit_hugepages
use 2048 16
