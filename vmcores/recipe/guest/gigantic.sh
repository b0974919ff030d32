# SPDX-License-Identifier: LGPL-2.1-or-later
# 1 GiB folios from boot, one of them in use, beside 2 MiB folios.
grow 0 2048 16
use 1048576 1
