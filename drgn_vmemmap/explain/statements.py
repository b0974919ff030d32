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
    """What a text says of something."""

    certainty: Certainty
    text: str


def certain(text: str) -> Statement:
    """What the text proves."""
    return Statement(Certainty.CERTAIN, text)


def likely(text: str) -> Statement:
    """What the text makes likely, and does not prove."""
    return Statement(Certainty.LIKELY, text)


def unknown(text: str) -> Statement:
    """What the text leaves open."""
    return Statement(Certainty.UNKNOWN, text)
