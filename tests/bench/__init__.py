# SPDX-License-Identifier: LGPL-2.1-or-later

"""
The benchmark: what the report and ``verify`` cost, beside the plain drgn script and the floor.

``python -m tests.bench [--small] [TARGET…]``, or ``make bench``.
"""
