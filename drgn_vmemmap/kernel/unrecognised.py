# SPDX-License-Identifier: LGPL-2.1-or-later

"""Parts that each known kernel has and this one lacks: their names may be new."""

from __future__ import annotations

import enum
from typing import NamedTuple


class Part(enum.Enum):
    """A part of the kernel that a name stands for."""

    LAYOUT = "HVO's layout"
    SWITCH = "HVO's switch"
    OPTIMIZED_FLAG = "the flag of optimized folios"
    HSTATE_COUNTERS = "counters of the hstates"
    HSTATE_LISTS = "lists of the hstates"
    TAIL_WORDS = "a word of tail pages"
    OWNER_MARKS = "a mark of pages in use"
    FREE_PAGES = "the mark of free pages"


class Unrecognised(NamedTuple):
    """A part of the kernel that was not recognised."""

    part: Part
    lacks: str
    """The names that the kernel does not have, in words."""

    @property
    def message(self) -> str:
        """The part and the missing names, for people."""
        return f"{self.part.value}: this kernel has no {self.lacks}"
