# SPDX-License-Identifier: LGPL-2.1-or-later
# Nearly all of a big host's memory in folios, all optimized.
folios() { :; } # looking at each page of so much memory would take longer than all the rest
grow 0 2048 60000
