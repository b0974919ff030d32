# SPDX-License-Identifier: LGPL-2.1-or-later

"""What a dump, or a running kernel, says of an address, a PFN, or all that a log names."""
