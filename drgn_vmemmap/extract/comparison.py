# SPDX-License-Identifier: LGPL-2.1-or-later

"""Whether an extract gives the report that it was made for."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import Any

from drgn_vmemmap.analysis.document import document
from drgn_vmemmap.analysis.report import Report
from drgn_vmemmap.errors import CannotAnalyse
from drgn_vmemmap.rules.finding import Finding, Severity


def check_same(report: Report, other: Report, what: str) -> None:
    """
    Check that two reports are the same.

    :param what: What gives the other one, in words.
    :raises CannotAnalyse: if they differ.
    """
    if _comparable(report) != _comparable(other):
        raise CannotAnalyse(f"nothing written: {what} gives another report; please report this bug")


def check_findings(report: Report, copy: Report) -> None:
    """
    Check that memory that was withheld is not taken for a fault of the kernel's.

    :param copy: Of a file that lacks this memory.
    :raises CannotAnalyse: if it is.
    """
    known = set(chain.from_iterable(map(_places, report.findings)))
    # Where a head is withheld, a list may lead to a folio that the dump knows as memory of none.
    errors = (each for each in report.findings if each.severity is Severity.ERROR)
    accused = {each.address for each in errors if each.address is not None}
    for finding in copy.findings:
        is_known = finding.address in accused or not known.isdisjoint(_places(finding))
        if finding.severity is Severity.ERROR and not is_known:
            raise CannotAnalyse(
                f"nothing written: the extract gives {finding.rule}, which this dump does "
                "not; please report this bug"
            )


def _places(finding: Finding) -> Iterator[tuple[object, ...]]:
    """
    The places that a finding accuses: a page of a folio, an address of any folio or none, and, by
    its message, the frame that other pages are mapped to.
    """
    yield finding.rule, finding.folio, finding.index
    yield finding.rule, finding.message
    if finding.address is not None:
        yield finding.rule, finding.address


def _comparable(report: Report) -> dict[str, Any]:
    """A report without what a recording cannot have: file, being live, debugging symbols."""
    result = document(report, folios=True)
    del result["target"]["file"]
    del result["kernel"]["live"], result["kernel"]["types_from"], result["movement"]
    return result
