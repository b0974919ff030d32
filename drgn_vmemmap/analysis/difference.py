# SPDX-License-Identifier: LGPL-2.1-or-later

"""What became of the folios between two reports, or two dumps."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from drgn_vmemmap.analysis.document import FOLIO_FIELDS, SCHEMA_VERSION, document
from drgn_vmemmap.api import examine
from drgn_vmemmap.errors import CannotAnalyse, printable
from drgn_vmemmap.target.program import open_dump

Document = Mapping[str, Any]

# Where the head page is depends on KASLR, and says nothing of the folio.
_COMPARED = [name for name in FOLIO_FIELDS if name not in ("pfn", "head")]


class Change(NamedTuple):
    """What became of one folio."""

    pfn: int
    kind: str
    """``appeared``, ``went``, ``optimized``, ``restored`` or ``changed``."""
    before: Document | None
    """The folio's fields in the first report; ``None`` if it was not there."""
    after: Document | None
    """The folio's fields in the second report; ``None`` if it is not there."""

    @property
    def fields(self) -> list[str]:
        """Names of the fields that differ."""
        if self.before is None or self.after is None:
            return []
        before, after = self.before, self.after
        return [name for name in _COMPARED if before.get(name) != after.get(name)]


class Difference(NamedTuple):
    """How two reports differ."""

    changes: list[Change]
    """In ascending order of PFN."""
    totals: dict[str, tuple[int, int]]
    """Each total, before and after."""

    @property
    def differs(self) -> bool:
        return bool(self.changes) or any(one != other for one, other in self.totals.values())


def load(path: str, system_map: str | None = None) -> Document:
    """
    A report with its folios, as what JSON is made of.

    :param path: A JSON report, or a dump, which is looked at without debugging symbols.
    :raises CannotAnalyse: if it is neither.
    :raises OSError: if it cannot be read.
    """
    with open(path, "rb") as file:
        is_json = file.read(64).lstrip().startswith(b"{")
    if is_json:
        return _load_json(path)
    try:
        prog = open_dump(path)
    except CannotAnalyse as error:
        raise CannotAnalyse(f"this is neither a JSON report nor a dump: {error}") from error
    return document(examine(prog, system_map=system_map), folios=True)


def _load_json(path: str) -> Document:
    try:
        with open(path, encoding="utf-8") as file:
            report = json.load(file)
    except (ValueError, RecursionError) as error:
        raise CannotAnalyse(f"{path} is no JSON report: {printable(str(error))}") from error
    version = report.get("schema_version")
    if version != SCHEMA_VERSION:
        raise CannotAnalyse(f"{path} is no JSON report of version {SCHEMA_VERSION}")
    if not _is_complete(report):
        raise CannotAnalyse(f"{path} does not list folios: write it with --folios --format json")
    return {**report, "folios": list(report["folios"])}


def _is_complete(report: Document) -> bool:
    folios, totals = report.get("folios"), report.get("totals")
    return (
        isinstance(folios, list)
        and all(isinstance(f, dict) and isinstance(f.get("pfn"), int) for f in folios)
        and isinstance(totals, dict)
        and all(isinstance(value, int) for value in totals.values())
    )


def difference(before: Document, after: Document) -> Difference:
    """
    :param before: A report with its folios.
    :param after: Another one.
    """
    totals = {
        name: (before["totals"].get(name, 0), after["totals"].get(name, 0))
        for name in {**before["totals"], **after["totals"]}
    }
    return Difference(list(_changes(before, after)), totals)


def _changes(before: Document, after: Document) -> Iterator[Change]:
    one = {folio["pfn"]: folio for folio in before["folios"]}
    other = {folio["pfn"]: folio for folio in after["folios"]}
    for pfn in sorted({*one, *other}):
        change = Change(pfn, "changed", one.get(pfn), other.get(pfn))
        if change.before is None:
            yield change._replace(kind="appeared")
        elif change.after is None:
            yield change._replace(kind="went")
        elif change.fields:
            yield change._replace(kind=_kind(change.before, change.after))


def _kind(before: Document, after: Document) -> str:
    verdicts = before.get("verdict"), after.get("verdict")
    if verdicts[0] != verdicts[1] and verdicts[1] == "optimized":
        return "optimized"
    return "restored" if verdicts == ("optimized", "unoptimized") else "changed"
