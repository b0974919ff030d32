# SPDX-License-Identifier: LGPL-2.1-or-later

"""
What is compared of a report, taken from its document.

A stored document may be damaged or forged: all that is used is checked first.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, BinaryIO, NamedTuple

from drgn_vmemmap.analysis.document import SCHEMA_VERSION
from drgn_vmemmap.analysis.report import Selection
from drgn_vmemmap.errors import CannotAnalyse, printable
from drgn_vmemmap.rules.finding import Severity
from drgn_vmemmap.rules.rule import UNREADABLE

Document = Mapping[str, Any]

# The most digits, and a sign, that a number of 64 bits has.
_DIGITS_LIMIT = 21

# The counts of an hstate that are about savings.
_COUNTS = ("folios", "optimized", "unoptimized", "freed")


class Comparable(NamedTuple):
    """The parts of a report that are compared."""

    release: str
    layout: str
    struct_page_size: int
    vmemmap_base: str
    """Where KASLR put the vmemmap: another place in each boot."""
    host: str
    """The host's name; empty if it is not known."""
    folios: dict[int, Document]
    """Fields of each folio, by PFN."""
    totals: dict[str, int]
    hstates: dict[str, dict[str, int]]
    """The counts of each hstate, by its name."""
    rules: Counter[str]
    """How many findings each rule has."""
    verified: bool
    """Whether all rules were run."""
    unchecked: frozenset[str]
    """Rules that were not checked in all that they require."""
    incomplete: bool
    """Whether memory that was needed was not there, or the user ended the analysis."""
    selection: Selection
    """The selection that the report was narrowed to."""


class _Damaged(ValueError):
    """A document is not what its schema says."""


def looks_like_json(start: bytes) -> bool:
    """
    Whether a file may be a stored report, whatever its charset is.

    :param start: Its first bytes.
    """
    text = start.decode(json.detect_encoding(start), "ignore")
    return text.lstrip().startswith("{")


def load_document(file: BinaryIO, path: str) -> Document:
    """
    Read a stored JSON report.

    :param path: Where the file is, for messages.
    :raises CannotAnalyse: if it is no such report.
    """
    try:
        document = json.load(
            file, parse_constant=_no_number, parse_float=_finite, parse_int=_integer
        )
    except (ValueError, RecursionError) as error:
        if getattr(error, "msg", "") == "Extra data" and getattr(error, "lineno", 0) == 2:
            raise CannotAnalyse(
                f"{path} is JSON Lines: write it with --folios --format json"
            ) from error
        raise CannotAnalyse(f"{path} is no JSON report: {printable(str(error))}") from error
    version = document.get("schema_version") if isinstance(document, dict) else None
    if version != SCHEMA_VERSION or isinstance(version, bool):
        raise CannotAnalyse(f"{path} is no JSON report of version {SCHEMA_VERSION}")
    if "folios" not in document:
        raise CannotAnalyse(f"{path} does not list folios: write it with --folios --format json")
    checked: Document = document
    return checked


def _no_number(word: str) -> float:
    raise ValueError(f"{word} is no number")


def _finite(text: str) -> float:
    # A number that Python cannot hold would be infinite, which JSON cannot express.
    number = float(text)
    return number if math.isfinite(number) else _no_number(text)


def _integer(text: str) -> int:
    if len(text) > _DIGITS_LIMIT:
        raise ValueError(f"a number of {len(text):,} digits is none of 64 bits")
    return int(text)


def comparable(document: Document, path: str) -> Comparable:
    """
    :param path: Where the document is from, for messages.
    :raises CannotAnalyse: if the document is damaged.
    """
    try:
        return _comparable(document)
    except _Damaged as error:
        raise CannotAnalyse(f"{path} is a damaged JSON report: {error}") from error


def _comparable(document: Document) -> Comparable:
    kernel = _field(document, "kernel", dict)
    findings = [_checked(f, dict, "a finding") for f in _field(document, "findings", list)]
    # A report does not differ by missing memory that only a verification reads.
    rules = Counter(
        _field(finding, "rule", str)
        for finding in findings
        if finding.get("rule") != UNREADABLE.name or _is_incompleteness(finding)
    )
    unchecked = list(_unchecked(document.get("unrecognised") or []))
    return Comparable(
        release=_field(kernel, "release", str),
        layout=_field(_field(kernel, "hvo", dict), "layout", str),
        struct_page_size=_field(kernel, "struct_page_size", int),
        vmemmap_base=_text(kernel, "vmemmap_base"),
        host=_text(_checked(document.get("target") or {}, dict, "'target'"), "host"),
        folios=_folios(_field(document, "folios", list)),
        totals=_counts(_field(document, "totals", dict)),
        hstates=_hstates(_field(document, "hstates", list)),
        rules=rules,
        # Reports of earlier versions do not say it, and then nothing is concluded from it.
        verified=document.get("verified") is True,
        unchecked=frozenset(unchecked),
        incomplete=document.get("interrupted") is True
        or any(map(_is_incompleteness, findings))
        or (document.get("incomplete") is True and not unchecked),
        selection=_selection(document.get("selection") or {}),
    )


def _is_incompleteness(finding: Document) -> bool:
    """Whether a finding says that memory which a result needs is not in the dump."""
    return finding.get("rule") == UNREADABLE.name and finding.get("severity") != Severity.INFO.value


def _unchecked(unrecognised: object) -> Iterator[str]:
    """Rules that rest on parts of the kernel that were not recognised."""
    for part in _checked(unrecognised, list, "'unrecognised'"):
        fields = _checked(part, dict, "an unrecognised part")
        for rule in _field(fields, "unchecked", list):
            yield _checked(rule, str, "a rule")


def _folios(folios: Iterable[object]) -> dict[int, Document]:
    by_pfn: dict[int, Document] = {}
    for folio in folios:
        fields = _checked(folio, dict, "a folio")
        pfn, order = _field(fields, "pfn", int), _field(fields, "order", int)
        if pfn < 0 or not 0 <= order < 64:
            raise _Damaged("the PFN or order of a folio is none")
        if pfn in by_pfn:
            raise _Damaged(f"the folio {pfn:#x} is listed twice")
        by_pfn[pfn] = fields
    return by_pfn


def _hstates(hstates: Iterable[object]) -> dict[str, dict[str, int]]:
    by_name: dict[str, dict[str, int]] = {}
    for hstate in hstates:
        fields = _checked(hstate, dict, "an hstate")
        by_name[_field(fields, "name", str)] = {name: _field(fields, name, int) for name in _COUNTS}
    return by_name


def _counts(counts: Document) -> dict[str, int]:
    return {name: _field(counts, name, int) for name in counts}


def _selection(selection: object) -> Selection:
    fields = _checked(selection, dict, "selection")
    names = ("hstate", "node", "pfn", "verdict")
    hstate, node, pfn, verdict = (fields.get(name) for name in names)
    return Selection(
        None if hstate is None else _checked(hstate, str, "selection"),
        None if node is None else _checked(node, int, "selection"),
        None if pfn is None else _checked(pfn, int, "selection"),
        None if verdict is None else _checked(verdict, str, "selection"),
    )


def _field(document: Document, name: str, kind: type[Any]) -> Any:
    if name not in document:
        raise _Damaged(f"'{printable(name)}' is missing")
    return _checked(document[name], kind, f"'{printable(name)}'")


def _text(document: Document, name: str) -> str:
    """A text that reports of earlier versions may lack; empty where it is not known."""
    value = document.get(name)
    return "" if value is None else str(_checked(value, str, f"'{name}'"))


def _checked(value: object, kind: type[Any], what: str) -> Any:
    # A bool is an int to Python, but not to JSON.
    if not isinstance(value, kind) or isinstance(value, bool):
        raise _Damaged(f"{what} is of another type")
    return value
