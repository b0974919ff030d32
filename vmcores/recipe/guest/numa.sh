# SPDX-License-Identifier: LGPL-2.1-or-later
# Both nodes have 1 GiB folios from boot, and 2 MiB folios of both kinds.
grow 0 2048 20
grow 1 2048 30
optimize 0
grow 0 2048 3
grow 1 2048 5
use 2048 10
use 1048576 1
