# SPDX-License-Identifier: LGPL-2.1-or-later

"""Long records that were sent or stored in fragments: by netconsole, by container runtimes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

_FRAGMENT = re.compile(
    r"(?P<head>\d{1,4},\d{1,20},\d{1,20},[-c+](?:,[^;\s,]{1,128}){0,16}?),"
    r"ncfrag=(?P<offset>\d{1,10})/\d{1,10};"
)

_CONTAINER = re.compile(r"[ \t]*\d{4}-\S{1,40} (?:stdout|stderr) (?P<tag>[FP]) ")


def fragments_joined(text: str) -> str:
    """The text with the fragments of each record as one line."""
    return _netconsole_joined(_containers_joined(text))


def _containers_joined(text: str) -> str:
    """Join the lines that a container runtime cut: ``P`` marks all parts but the last one."""
    if " P " not in text:
        return text
    return "".join(_container_pieces(text.split("\n"))).removesuffix("\n")


def _container_pieces(lines: Iterable[str]) -> Iterator[str]:
    is_cut = False
    for line in lines:
        record = _CONTAINER.match(line)
        if is_cut and record is None:
            yield "\n"
        start = record.end() if is_cut and record else 0
        is_cut = record is not None and record["tag"] == "P"
        yield line[start:].rstrip("\r") if is_cut else f"{line[start:]}\n"


def _netconsole_joined(text: str) -> str:
    """
    Join the fragments of each long record, where the first of them stands.

    Follows ``send_fragmented_body()`` of ``drivers/net/netconsole.c``.
    """
    if "ncfrag=" not in text:
        return text
    records: dict[str, dict[int, str]] = {}
    pieces: list[str | dict[int, str]] = []
    end = 0
    matches = list(_FRAGMENT.finditer(text))
    for match, stop in zip(matches, [*(other.start() for other in matches[1:]), len(text)]):
        pieces.append(text[end : match.start()])
        line_end = text.find("\n", match.end(), stop)
        end = stop if line_end < 0 else line_end
        # Each boot counts its records from 0; no two have the same number at the same time.
        head = match["head"]
        if head not in records:
            records[head] = {}
            pieces += [f"\n{head};", records[head], "\n"]
        records[head][int(match["offset"])] = text[match.end() : end].rstrip("\r")
    pieces.append(text[end:])
    return "".join(piece if isinstance(piece, str) else _record(piece) for piece in pieces)


def _record(fragments: dict[int, str]) -> str:
    """A record from its fragments by their offsets."""
    return "".join(fragments[offset] for offset in sorted(fragments))
