# SPDX-License-Identifier: LGPL-2.1-or-later

"""The target: what is read of a kernel, through drgn alone."""

from drgn_vmemmap.requirements import check_drgn

check_drgn()
