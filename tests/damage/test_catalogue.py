# SPDX-License-Identifier: LGPL-2.1-or-later

"""Each fault of the catalogue is found under its own rule, where it is, and nothing else."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Callable

import pytest

from drgn_vmemmap.rules.finding import Severity
from drgn_vmemmap.rules.rule import RULES
from tests.damage.catalogue import CATALOGUE, REAL, SCENES, Fault, layout_of, places, scene
from tests.damage.edited import EditedKernel
from tests.support import errors_of, says_where

Record = Callable[[str, object], None]


@pytest.fixture(params=SCENES)
def edited(request: pytest.FixtureRequest) -> Iterator[EditedKernel]:
    kernel = scene(request.param)
    yield kernel
    kernel.reset()


def test_a_sound_kernel_is_not_accused(edited: EditedKernel, record_property: Record) -> None:
    accusations = [f for f in edited.before.findings if f.severity.value != "info"]
    assert accusations == []
    record_property("clean", layout_of(edited).value)


def test_each_rule_has_a_fault_that_provokes_it() -> None:
    assert {fault.rule for fault in CATALOGUE} == set(RULES)


def is_more_severe(severity: Severity, other: Severity) -> bool:
    worst_first = [*Severity]
    return worst_first.index(severity) < worst_first.index(other)


@pytest.mark.parametrize("fault", CATALOGUE, ids=lambda fault: fault.name.replace(" ", "-"))
def test_a_fault_is_found_where_it_is_and_nothing_else(
    edited: EditedKernel, fault: Fault, record_property: Record, request: pytest.FixtureRequest
) -> None:
    expected = fault.provoke(edited)
    where = request.node.callspec.params["edited"]
    kind = "real" if where in REAL else "image"
    if expected is None:
        # It needs an unoptimized folio in a split table, or a flag, that this kernel does not have.
        record_property("provoked", (fault.rule, layout_of(edited).value, kind, False))
        return
    assert edited.memory.bytes or edited.memory.missing
    report = edited.check()
    assert all(map(says_where, errors_of(report)))
    assert [f for f in report.findings if is_more_severe(f.severity, RULES[f.rule].severity)] == []
    new = places(report) - places(edited.before)
    assert not [place for place in expected if place not in new]
    rest = new - Counter(expected)
    others = {place for place in rest if place[0] not in fault.follows}
    # What was optimized may now be found not to be, and what was not may be neither.
    assert {place for place in others if place[0] != "unoptimized"} == set()
    record_property("provoked", (fault.rule, layout_of(edited).value, kind, True))
