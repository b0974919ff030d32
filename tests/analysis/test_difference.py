# SPDX-License-Identifier: LGPL-2.1-or-later

"""What became of the folios between two reports, or two dumps."""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from drgn_vmemmap.analysis.difference import Difference, difference
from drgn_vmemmap.analysis.document import document
from tests.support import report_file, vmcore, vmemmap
from tests.synthetic.image import Image
from tests.synthetic.kernels import LINES
from tests.synthetic.model import FIRST_FOLIO, FRESH_W, Folio, Machine

ONE, OTHER = FIRST_FOLIO, FIRST_FOLIO + 512


def between(before: list[Folio], after: list[Folio]) -> Difference:
    documents = [
        document(Image(Machine(line=LINES["6.12.0"], folios=tuple(folios))).examine(), folios=True)
        for folios in (before, after)
    ]
    return difference(*documents)


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
    whole = Folio(ONE, remapped=False, edits=dict.fromkeys(range(1, 8), FRESH_W))
    assert kinds(between([whole], [Folio(ONE)])) == [(ONE, "optimized")]
    found = between([Folio(ONE)], [whole])
    assert kinds(found) == [(ONE, "restored")]
    assert found.totals["freed"] == (7, 0)


def test_a_folio_that_is_used_has_changed() -> None:
    from drgn_vmemmap.hugetlb.folios import State

    found = between([Folio(ONE)], [replace(Folio(ONE), state=State.ACTIVE)])
    assert kinds(found) == [(ONE, "changed")]
    assert found.changes[0].fields == ["state"]


# The command.


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    return vmemmap("diff", *arguments)


def test_a_dump_does_not_differ_from_its_report() -> None:
    done = run(vmcore("head-reuse"), report_file("head-reuse"))
    assert (done.returncode, done.stdout) == (0, "no difference\n")


def test_two_kernels_differ() -> None:
    paths = [report_file("head-reuse"), report_file("shared-tail")]
    done = run(*paths, "--format", "json")
    found: dict[str, Any] = json.loads(done.stdout)
    assert done.returncode == 1 and found["differs"]
    before, after = ({f["pfn"] for f in json.loads(p.read_text())["folios"]} for p in paths)
    kinds = {change["pfn"]: change["kind"] for change in found["changes"]}
    assert {pfn for pfn, kind in kinds.items() if kind == "went"} == before - after
    assert {pfn for pfn, kind in kinds.items() if kind == "appeared"} == after - before
    text = run(*paths)
    assert text.returncode == 1 and f"{len(after - before)} appeared" in text.stdout


@pytest.mark.parametrize(
    ("content", "reason"),
    (
        (b"hello", "neither a JSON report nor a dump"),
        (b"", "neither a JSON report nor a dump"),
        (b"{", "no JSON report"),
        (b"{}", "no JSON report of version 1"),
        (b'{"schema_version": 2}', "no JSON report of version 1"),
        (b'{"schema_version": 1, "totals": {}}', "does not list folios"),
        (b'{"schema_version": 1, "totals": {}, "folios": [1]}', "does not list folios"),
        (b'{"a":' * 100_000, "no JSON report"),
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
