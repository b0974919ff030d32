# SPDX-License-Identifier: LGPL-2.1-or-later

"""What the lines after a message may be about; lines of other processors come between them."""

from __future__ import annotations

import enum

from drgn_vmemmap.explain.messages.addresses import ADDRESSES
from drgn_vmemmap.explain.messages.architectures import OTHER_ARCHITECTURES
from drgn_vmemmap.explain.messages.faults import GENERAL_PROTECTION, PAGE_FAULTS
from drgn_vmemmap.explain.messages.message import Message
from drgn_vmemmap.explain.messages.pages import DUMPED_PAGES
from drgn_vmemmap.explain.messages.table import ANY_PFN


class Subject(enum.Enum):
    """What a line is about, if it names neither a fault nor a page itself."""

    PAGE_FAULT = "page fault"
    """Its access, its error code and its walk."""
    DUMPED_PAGE = "dumped page"
    """What its struct page holds."""
    STACK = "stack"
    """Registers and functions."""


_SUBJECTS = (
    (PAGE_FAULTS, (Subject.PAGE_FAULT, Subject.STACK)),
    (OTHER_ARCHITECTURES, (Subject.PAGE_FAULT, Subject.STACK)),
    (GENERAL_PROTECTION, (Subject.STACK,)),
    (ADDRESSES, (Subject.STACK,)),
    (DUMPED_PAGES, (Subject.DUMPED_PAGE, Subject.STACK)),
    # A kernel that was not read may write another line before a page's contents.
    ((ANY_PFN,), (Subject.DUMPED_PAGE,)),
)


def subjects_of(message: Message) -> tuple[Subject, ...]:
    """What the lines after a message may be about; of a failure of memory, there are none."""
    return next((subjects for messages, subjects in _SUBJECTS if message in messages), ())
