# SPDX-License-Identifier: LGPL-2.1-or-later

"""
Explanations: of one address, of one PFN, or of all that a log names.

The packages are the flow of the data. What holds of all kernels for x86-64 is beside them.

- ``text``: from a text in any form to the lines that the kernel wrote.
- ``messages``: the wordings of the kernel that name a fault, a page or an address.
- ``log``: from lines to mentions, each with what other lines say of it and of its boot.
- ``dump``: what a dump, or a running kernel, says of an address, a PFN or a mention.
- ``text_only``: what a text proves of its mentions by itself.
"""
