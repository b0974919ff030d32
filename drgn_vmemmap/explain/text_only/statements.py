# SPDX-License-Identifier: LGPL-2.1-or-later

"""Statements on what a text proves: each is certain, likely, or said to be unknown."""

from __future__ import annotations

import enum
from typing import NamedTuple


class Certainty(enum.Enum):
    """How sure a statement is."""

    CERTAIN = "certain"
    LIKELY = "likely"
    UNKNOWN = "unknown"


class Statement(NamedTuple):
    """One sentence, and how certain it is."""

    certainty: Certainty
    text: str


def certain(text: str) -> Statement:
    """A sentence that the text proves."""
    return Statement(Certainty.CERTAIN, text)


def likely(text: str) -> Statement:
    """A sentence that the text makes likely, and does not prove."""
    return Statement(Certainty.LIKELY, text)


def unknown(text: str) -> Statement:
    """A question that the text leaves open."""
    return Statement(Certainty.UNKNOWN, text)
