# SPDX-License-Identifier: LGPL-2.1-or-later

"""The wordings of the kernel that name a fault, a page or an address."""
