# SPDX-License-Identifier: LGPL-2.1-or-later

"""The target: what is read of a kernel, all of it through drgn."""

from drgn_vmemmap.requirements import check_drgn

check_drgn()
