# SPDX-License-Identifier: LGPL-2.1-or-later

"""What became of the folios between two reports, or two dumps."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterable, Iterator
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drgn_vmemmap import Selection, examine
from drgn_vmemmap.analysis.comparable import comparable
from drgn_vmemmap.analysis.difference import Difference, difference
from drgn_vmemmap.analysis.document import document
from drgn_vmemmap.errors import CannotAnalyse
from drgn_vmemmap.output.difference import render
from tests.support import answer, report_file, vmcore
from tests.synthetic.image import Image
from tests.synthetic.kernels import LINES
from tests.synthetic.model import FIRST_FOLIO, FRESH_W, REUSE_W, Folio, Machine

ONE, OTHER = FIRST_FOLIO, FIRST_FOLIO + 512


def document_of(*folios: Folio, **narrowed: Any) -> dict[str, Any]:
    image = Image(Machine(line=LINES["6.12.0"], folios=folios))
    return document(examine(image.prog, Selection(**narrowed)), folios=True)


def compared(before: dict[str, Any], after: dict[str, Any]) -> Difference:
    return difference(comparable(before, "A"), comparable(after, "B"))


def between(before: list[Folio], after: list[Folio]) -> Difference:
    return compared(document_of(*before), document_of(*after))


def text(found: Difference) -> str:
    return "".join(render(found, "table"))


def kinds(found: Difference) -> list[tuple[int, str]]:
    return [(change.pfn, change.kind) for change in found.changes]


def test_what_did_not_change_is_no_difference() -> None:
    found = between([Folio(ONE)], [Folio(ONE)])
    assert not found.differs and found.changes == []


def test_folios_appear_and_go() -> None:
    found = between([Folio(ONE)], [Folio(OTHER)])
    assert kinds(found) == [(ONE, "went"), (OTHER, "appeared")]
    assert found.totals["folios"] == (1, 1)


def test_folios_are_optimized_and_restored() -> None:
    unoptimized = Folio(ONE, remapped=False, edits=dict.fromkeys(range(1, 8), FRESH_W))
    assert kinds(between([unoptimized], [Folio(ONE)])) == [(ONE, "optimized")]
    found = between([Folio(ONE)], [unoptimized])
    assert kinds(found) == [(ONE, "restored")]
    assert found.totals["freed"] == (7, 0)


def test_a_folio_that_is_used_has_changed() -> None:
    from drgn_vmemmap.hugetlb.folio import State

    found = between([Folio(ONE)], [replace(Folio(ONE), state=State.ACTIVE)])
    assert kinds(found) == [(ONE, "changed")]
    assert found.changes[0].fields == ["state"]


# What cannot be known.

UNREADABLE = Folio(OTHER, head_in_dump=False)


def test_a_folio_that_cannot_be_read_did_not_go() -> None:
    found = between([Folio(ONE), Folio(OTHER)], [Folio(ONE), UNREADABLE])
    assert (found.differs, found.complete, found.unknown) == (False, False, [OTHER])
    assert found.totals == found.rules == {}
    assert text(found).splitlines() == [
        "no difference is known",
        "B is incomplete: 1 folio cannot be compared, nor can totals and rules",
    ]


def test_a_folio_that_could_not_be_read_before_did_not_appear() -> None:
    found = between([Folio(ONE), UNREADABLE], [Folio(ONE), Folio(OTHER)])
    assert (found.differs, found.complete, found.unknown) == (False, False, [OTHER])
    assert "A is incomplete" in text(found)


def test_two_incomplete_reports_are_not_without_difference() -> None:
    found = between([Folio(ONE), UNREADABLE], [Folio(ONE), UNREADABLE])
    assert (found.differs, found.complete) == (False, False)
    assert "A and B are incomplete" in text(found)


def test_a_report_that_the_user_interrupted_is_incomplete() -> None:
    one = document_of(Folio(ONE))
    found = compared(one, {**one, "interrupted": True})
    assert (found.differs, found.complete) == (False, False)
    assert "B is incomplete" in text(found) and "memory" not in text(found)


def test_what_is_certain_is_a_difference_whatever_is_missing() -> None:
    unoptimized = Folio(ONE, remapped=False, edits=dict.fromkeys(range(1, 8), FRESH_W))
    found = between([Folio(ONE), Folio(OTHER)], [unoptimized, UNREADABLE])
    assert (ONE, "restored") in kinds(found)
    assert found.differs and not found.complete


@pytest.mark.parametrize("narrowed", ({"pfn": ONE + 7}, {"hstate": "hugepages-2048kB"}))
def test_reports_that_are_narrowed_alike_are_compared(narrowed: dict[str, Any]) -> None:
    one = document_of(Folio(ONE), Folio(OTHER), **narrowed)
    found = compared(one, one)
    assert (found.differs, found.complete) == (False, True)
    assert text(found) == "no difference\n"


def test_a_folio_outside_of_a_narrowed_report_did_not_go() -> None:
    found = compared(document_of(Folio(ONE), Folio(OTHER)), document_of(Folio(ONE), pfn=ONE))
    assert (found.differs, found.complete, found.outside) == (False, False, (1, 0))
    assert text(found).splitlines() == [
        "no difference is known",
        "B is narrowed: 1 folio of A cannot be compared",
        "totals and rules are not compared",
    ]


def test_a_folio_that_a_narrowed_report_covers_went() -> None:
    found = compared(document_of(Folio(ONE), Folio(OTHER)), document_of(Folio(ONE), pfn=OTHER))
    assert kinds(found) == [(OTHER, "went")]


def test_findings_are_compared_by_rule() -> None:
    found = between([Folio(ONE)], [Folio(ONE, edits={5: REUSE_W})])
    assert found.rules["tail-writable"] == (0, 1)


# Two kernels.


def test_of_two_kernels_savings_and_rules_are_compared() -> None:
    before, after = (
        document(Image(Machine(line=LINES[release], folios=folios)).examine(), folios=True)
        for release, folios in (
            ("6.12.0", (Folio(ONE),)),
            ("7.2.0", (Folio(OTHER), Folio(ONE, edits={5: REUSE_W}))),
        )
    )
    found = compared(before, after)
    assert not found.same_kernel and found.changes == [] and found.complete
    assert found.hstates["hugepages-2048kB"]["optimized"] == (1, 1)
    assert found.rules["tail-writable"] == (0, 1)
    lines = text(found).splitlines()
    assert lines[0] == ("two kernels, 6.12.0 and 7.2.0: savings and rules are compared, not PFNs")
    assert lines[-1] == "the reports differ"


def test_two_boots_of_a_kernel_have_the_vmemmap_at_two_places() -> None:
    one, other = document_of(Folio(ONE)), document_of(Folio(OTHER))
    assert "two boots" not in text(compared(one, other))
    other["kernel"]["vmemmap_base"] = "0xffffea0040000000"
    found = compared(one, other)
    assert found.two_boots and kinds(found) == [(ONE, "went"), (OTHER, "appeared")]
    assert text(found).startswith("two boots of one kernel: ")
    # Reports of earlier versions may not say where it was.
    del other["kernel"]["vmemmap_base"]
    assert not compared(one, other).two_boots


def test_two_kernels_with_the_same_savings_do_not_differ() -> None:
    before, after = document_of(Folio(ONE)), document_of(Folio(ONE))
    after["kernel"]["release"] = "6.12.1"
    found = compared(before, after)
    assert (found.same_kernel, found.differs, found.complete) == (False, False, True)


# Documents that are damaged, or made up.

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=5,
)


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The paths of all values in a document."""
    if path:
        yield path
    inner: Iterable[tuple[Any, Any]] = ()
    if isinstance(value, dict):
        inner = value.items()
    elif isinstance(value, list):
        inner = enumerate(value)
    for key, part in inner:
        yield from places(part, (*path, key))


DOCUMENT = document_of(Folio(ONE), Folio(OTHER, edits={5: REUSE_W}))
PLACES = list(places(DOCUMENT))


@given(st.sampled_from(PLACES), JSON_VALUES)
def test_a_made_up_document_is_refused_or_compared(path: tuple[Any, ...], value: Any) -> None:
    made_up = deepcopy(DOCUMENT)
    parent = made_up
    for key in path[:-1]:
        parent = parent[key]
    parent[path[-1]] = value
    try:
        found = compared(DOCUMENT, made_up)
    except CannotAnalyse as error:
        assert str(error).startswith("B is a damaged JSON report: ")
        assert str(error).isprintable()
    else:
        assert all(line.isprintable() for line in text(found).split("\n"))
        json.loads("".join(render(found, "json")))


def test_a_folio_listed_twice_is_damage() -> None:
    twice = {**DOCUMENT, "folios": DOCUMENT["folios"][:1] * 2}
    with pytest.raises(CannotAnalyse, match="0x8000 is listed twice"):
        comparable(twice, "A")


# The command.


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    return answer("diff", *arguments)


def test_a_dump_does_not_differ_from_its_report() -> None:
    done = run(vmcore("head-reuse"), report_file("head-reuse"))
    assert (done.returncode, done.stdout) == (0, "no difference\n")


def test_two_recorded_kernels_differ() -> None:
    paths = [report_file("head-reuse"), report_file("shared-tail")]
    done = run(*paths, "--format", "json")
    found: dict[str, Any] = json.loads(done.stdout)
    assert done.returncode == 1 and found["differs"] and not found["same_kernel"]
    before, after = (json.loads(path.read_text())["totals"] for path in paths)
    assert found["totals"]["net_saved_bytes"] == {
        "before": before["net_saved_bytes"],
        "after": after["net_saved_bytes"],
    }
    text = run(*paths)
    assert text.returncode == 1 and text.stdout.startswith("two kernels, ")


def test_an_incomplete_dump_has_its_own_exit_code(tmp_path: Path) -> None:
    incomplete = tmp_path / "B.json"
    incomplete.write_text(json.dumps(document_of(Folio(ONE), UNREADABLE)))
    complete = tmp_path / "A.json"
    complete.write_text(json.dumps(document_of(Folio(ONE), Folio(OTHER))))
    assert run(complete, complete).returncode == 0
    done = run(complete, incomplete)
    assert (done.returncode, done.stderr) == (3, "")
    assert run(incomplete, incomplete).returncode == 3


@pytest.mark.parametrize(
    ("content", "reason"),
    (
        (b"hello", "neither a JSON report nor a dump"),
        (b"", "neither a JSON report nor a dump"),
        (b"{", "no JSON report"),
        (b"{}", "no JSON report of version 1"),
        (b'{"schema_version": 2}', "no JSON report of version 1"),
        (b'{"schema_version": true, "folios": []}', "no JSON report of version 1"),
        (b'{"schema_version": 1, "totals": {}}', "does not list folios"),
        (b'{"schema_version": 1, "totals": {}, "folios": [1]}', "a damaged JSON report"),
        (b'{"schema_version": ' + b"1" * 5000 + b"}", "no JSON report"),
        (b'{"a":' * 100_000, "no JSON report"),
        (b'{"schema_version": 1, "folios": [NaN]}', "NaN is no number"),
        (b'{"schema_version": 1, "folios": [-1e999]}', "-1e999 is no number"),
        (b"KDUMP   " + b"\xff" * 4096, "cut off"),
        (b"\x7fELF" + bytes(100), "neither a JSON report nor a dump"),
    ),
)
def test_what_is_neither_gets_one_line(content: bytes, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    done = run(path, report_file("head-reuse"))
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1 and reason in done.stderr


def test_a_file_that_is_not_there_gets_one_line(tmp_path: Path) -> None:
    done = run(tmp_path / "none", report_file("head-reuse"))
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(("name", "value"), (("pfn", -1), ("order", -1), ("order", 64)))
def test_a_folio_of_no_pfn_or_order_is_damage(name: str, value: int) -> None:
    damaged = document_of(Folio(ONE))
    damaged["folios"][0][name] = value
    with pytest.raises(CannotAnalyse, match="A is a damaged JSON report"):
        comparable(damaged, "A")
