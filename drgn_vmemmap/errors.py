# SPDX-License-Identifier: LGPL-2.1-or-later

"""Errors that end an analysis, or a part of it, each with one line for the user."""

from __future__ import annotations


class CannotAnalyse(Exception):
    """This target cannot be analysed; the message says why and what to do, in one line."""


class MissingFacts(CannotAnalyse):
    """The analysis cannot begin: kernel data that it needs is not in the dump, or damaged."""


class MissingMemory(Exception):
    """
    Memory that the analysis needs and that the target cannot give.

    A dump can be filtered or truncated, and a guest can go away during a pass.
    """

    state = "not in the dump"
    """Why it cannot be had, in words."""

    def __init__(self, what: str) -> None:
        """
        :param what: What is missing, such as ``physical address 0x1000``.
        """
        super().__init__(f"{what} is {self.state}")


class NotMapped(MissingMemory):
    """Virtual memory that the target's own page tables map to no memory."""

    state = "mapped to no memory"


def printable(text: str) -> str:
    """Text from a dump, with everything that a terminal would act on shown as an escape."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
