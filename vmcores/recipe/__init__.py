# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Makes vmcores: fetches a Debian kernel by line, boots it under QEMU, sets up HugeTLB, dumps it.

>>> from vmcores.recipe import dump
>>> made = dump("6.12", "basic", "somewhere")  # doctest: +SKIP
"""

from __future__ import annotations

from vmcores.recipe.dump import Dump, boot, dump
from vmcores.recipe.errors import GuestError, MissingError, RecipeError, ToolError

__all__ = ["Dump", "GuestError", "MissingError", "RecipeError", "ToolError", "boot", "dump"]
