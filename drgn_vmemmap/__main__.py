# SPDX-License-Identifier: LGPL-2.1-or-later

"""
The entry point of the shell: a script for drgn, or a program of its own.

``drgn -c vmcore …/__main__.py``, ``python3 -m drgn_vmemmap -c vmcore`` and the
bundle all begin here.
"""

import os
import sys

if not __package__:
    # As a script, this directory is searched for modules; the package is the one above it.
    here = os.path.dirname(os.path.abspath(__file__))
    sys.path[0] = os.path.dirname(here)
    # drgn may have loaded an installed release as a plugin. This file runs its own directory.
    loaded = sys.modules.get("drgn_vmemmap")
    if loaded is not None and here not in map(os.path.abspath, loaded.__path__):
        for name in list(sys.modules):
            if name.split(".")[0] == "drgn_vmemmap":
                del sys.modules[name]

from drgn_vmemmap.cli.launcher import main

main()
