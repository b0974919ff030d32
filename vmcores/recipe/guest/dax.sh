# SPDX-License-Identifier: LGPL-2.1-or-later
# Device-DAX namespaces beside the folios: with their memmap in memory, aligned to 2 MiB and to 1 GiB,
# and with it in the namespace itself.

# create NAMESPACE MAP ALIGN: puts a namespace into device-DAX mode, and says what the guest sees of it.
create() {
	ndctl create-namespace -f -e "$1" -m devdax -M "$2" -a "$3" > /dev/null || fail "ndctl: $*"
	namespace=/sys/bus/nd/devices/$1
	read -r name < "$namespace/holder"
	device=/sys/bus/dax/drivers/device_dax/$name
	[ -L "$device" ] || fail "$name is not in device-DAX mode"
	map=$(ndctl list -n "$1" | sed -n 's/.*"map":"\(.*\)".*/\1/p')
	set -- "$1" $(cat "$namespace/resource" "$namespace/size") "$name" $(cat "$device/resource" "$device/size")
	say dax "$* $(cat "$device/align") $map"
}

. /basic.sh
create namespace0.0 mem 2M
create namespace1.0 dev 2M
create namespace2.0 mem 1G
