# SPDX-License-Identifier: LGPL-2.1-or-later
# 64 optimized folios, 8 that are not optimized, 10 of the 72 in use.
grow 0 2048 64
optimize 0
grow 0 2048 8
use 2048 10
