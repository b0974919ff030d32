# SPDX-License-Identifier: LGPL-2.1-or-later

"""The output in recordings of a terminal by asciinema, whose pieces may end anywhere."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any


def recorded_output(text: str) -> str:
    """The output in a recording; any other text as it is."""
    first, _, rest = text.lstrip().partition("\n")
    header = _decoded(first) if '"version"' in first else None
    if not isinstance(header, dict):
        return text
    events: Iterable[Any] = ()
    if isinstance(header.get("stdout"), list):
        events = header["stdout"]
    elif "width" in header or "term" in header:
        events = map(_decoded, rest.splitlines())
    return "".join(filter(None, map(_output, events))) or text


def _output(event: Any) -> str | None:
    """The output of an event, which has its time, in later versions its kind, and a text."""
    if not isinstance(event, list) or len(event) not in (2, 3):
        return None
    is_output = len(event) == 2 or event[1] == "o"
    return event[-1] if is_output and isinstance(event[-1], str) else None


def _decoded(line: str) -> Any:
    """The value in a line of JSON; ``None`` if it is none."""
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None
