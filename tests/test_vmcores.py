# SPDX-License-Identifier: LGPL-2.1-or-later

"""Recorded vmcores of real kernels still give the reports that the full dumps gave."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from drgn_vmemmap import verify
from drgn_vmemmap.analysis.document import document
from drgn_vmemmap.extract.recording import extract
from tests.support import VMCORES, open_vmcore
from tests.support import vmcore as path_of


def report_of(vmcore: Path) -> dict[str, Any]:
    report = document(verify(open_vmcore(vmcore)), folios=True)
    assert report["target"]["file"] == str(vmcore)
    report["target"]["file"] = None
    return report


@cache
def report_of_recorded(vmcore: Path) -> dict[str, Any]:
    """The report of a recorded vmcore, which several tests share and none changes."""
    return report_of(vmcore)


@pytest.fixture(params=VMCORES, ids=lambda path: path.stem)
def vmcore(request: pytest.FixtureRequest) -> Path:
    assert isinstance(request.param, Path)
    return request.param


def test_there_is_a_vmcore_of_each_layout() -> None:
    layouts = {report_of_recorded(path)["kernel"]["hvo"]["layout"] for path in VMCORES}
    assert layouts >= {"head-reuse", "shared-tail"}


def test_the_report_is_the_one_recorded(vmcore: Path) -> None:
    expected = json.loads(vmcore.with_suffix(".json").read_text())
    report = report_of_recorded(vmcore)
    assert report["kernel"]["types_from"] == "btf"
    expected["tool"] = report["tool"]
    assert report == expected


def test_nothing_is_broken(vmcore: Path) -> None:
    findings = report_of_recorded(vmcore)["findings"]
    assert [finding for finding in findings if finding["severity"] != "info"] == []


def test_the_report_agrees_with_what_the_guest_counted(vmcore: Path) -> None:
    guest = json.loads(vmcore.with_suffix(".origin.json").read_text())
    report = report_of_recorded(vmcore)
    pools = {
        (f"hugepages-{pool['size_kb']}kB", pool["node"]): pool["nr"] for pool in guest["hugepages"]
    }
    found = {
        (hstate["name"], node["node"]): node["folios"]
        for hstate in report["hstates"]
        for node in hstate["nodes"]
    }
    assert found == {pool: count for pool, count in pools.items() if count}
    assert report["kernel"]["release"] == guest["release"]
    assert report["kernel"]["paging_levels"] == guest["paging_levels"]


@pytest.mark.long
def test_an_extract_of_an_extract_says_the_same(vmcore: Path, tmp_path: Path) -> None:
    again = tmp_path / "vmcore"
    extract(open_vmcore(vmcore), str(again), compress=False)
    assert report_of(again) == report_of_recorded(vmcore)


@pytest.mark.long
@pytest.mark.parametrize("name", ("head-reuse", "shared-tail"))
def test_an_extract_that_is_compressed_says_the_same(name: str, tmp_path: Path) -> None:
    again = tmp_path / "vmcore"
    extract(open_vmcore(name), str(again), compress=True)
    assert report_of(again) == report_of_recorded(path_of(name))
