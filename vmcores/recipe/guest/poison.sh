# SPDX-License-Identifier: LGPL-2.1-or-later
# As basic; then memory fails in four folios: a free and a used one, hard and soft.

# poison hard|soft free|used: takes page 5 of the first such folio out of service.
poison() {
	pfn=$(folios | grep -m 1 "$2" | cut -d' ' -f1)
	[ -n "$pfn" ] || fail "poison: no folio is $2"
	echo $(((pfn + 5) << 12)) > "/sys/devices/system/memory/$1_offline_page" || fail "poison $*"
	say poisoned "$1 $2 $pfn"
}

[ -e /sys/devices/system/memory/hard_offline_page ] || fail "built without CONFIG_MEMORY_FAILURE"
. /basic.sh
for kind in hard soft; do
	for state in free used; do
		poison $kind $state
	done
done
