# SPDX-License-Identifier: LGPL-2.1-or-later
# More folios than the hot-plugged memory, which is asked first, has room for.
online=$(cat /sys/devices/system/memory/memory*/state | grep -c online)
[ "$online" -ge 18 ] || fail "hot-plugged memory is not online"
grow 0 2048 160
