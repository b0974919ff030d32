# SPDX-License-Identifier: LGPL-2.1-or-later
# A pool that shrinks: most of its folios are restored, and given back.
grow 0 2048 64
echo 10 > /proc/sys/vm/nr_hugepages
[ "$(cat /proc/sys/vm/nr_hugepages)" = 10 ] || fail "the pool did not shrink"
