# SPDX-License-Identifier: LGPL-2.1-or-later

"""A guest that watches itself under stress: it is interrupted, and something breaks half-way."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from drgn_vmemmap.cli.exit_codes import FOUND_ERRORS
from tests.vm.test_kernels import Record
from tests.vm.test_live import kept, let_go, make_writable
from vmcores.recipe import MissingError, boot
from vmcores.recipe.guest import Words

INTERRUPTED = 9
"""Exit code of the stress test when it is interrupted."""

SOON = 5.0
"""Seconds in which an emulated machine, on a busy one, sees Ctrl-C; others do in half a second."""

PAGE = 3
"""Index of the vmemmap page that becomes writable."""


def test_a_guest_that_watches_itself_under_stress(tmp_path: Path, record_property: Record) -> None:
    try:
        guest = boot("newest", "watched", tmp_path)
    except MissingError as error:
        pytest.skip(str(error))
    with guest:
        guest.wait_for("halfway")
        make_writable(guest, kept(guest), PAGE)
        let_go()
        said = guest.wait_for("done")
    seconds = a_sound_pool_is_not_accused_and_ctrl_c_ends_watching(said)
    number, size = a_fault_half_way_is_found_and_its_first_moment_left(said)
    facts_are_read_afresh_in_each_pass(said)
    record_property(
        "note",
        f"watched under stress: Ctrl-C ended it after {seconds:.2f} s; a fault half-way was found "
        f"in pass {number}, and left {size} bytes",
    )


def passes(said: Words, run: str) -> list[dict[str, Any]]:
    """What each pass said of the folios of 2 MiB."""
    lines = map(json.loads, said[f"{run}_output"])
    return [line for line in lines if line["hstate"] == "hugepages-2048kB"]


def errors(said: Words, run: str) -> str:
    return "\n".join(said[f"{run}_errors"])


def a_sound_pool_is_not_accused_and_ctrl_c_ends_watching(said: Words) -> float:
    """Watching ends with the stress test; returns the seconds from the signal to the end."""
    code, now = said["interrupted"][0].split()
    assert int(code) == INTERRUPTED
    seconds = float(now) - float(said["signalled"][0])
    assert seconds < SOON
    taken = passes(said, "interrupted")
    assert len(taken) >= 2 and sum(each["moved"] for each in taken)
    assert [each["broken"] for each in taken] == [[]] * len(taken)
    assert "written" not in errors(said, "interrupted")
    return seconds


def a_fault_half_way_is_found_and_its_first_moment_left(said: Words) -> tuple[int, str]:
    """Returns the number of the pass that found it, and the size of the vmcore in bytes."""
    code, _ = said["broken"][0].split()
    assert int(code) == FOUND_ERRORS
    taken = [each["broken"] for each in passes(said, "broken")]
    first = taken.index(["tail-writable"])
    assert taken == [[]] * first + [["tail-writable"]] * (len(taken) - first) and first
    assert "A stray write to a tail" in errors(said, "broken")

    count, name, size = said["extract"][0].split()
    assert (int(count), name.rpartition("-")[0]) == (1, "vmcore-tail-writable")
    assert name in errors(said, "broken")
    assert int(said["verified"][0]) == FOUND_ERRORS
    report = json.loads(said["report"][0])
    found = [
        (finding["rule"], finding["folio"], finding["index"])
        for finding in report["findings"]
        if finding["severity"] == "error"
    ]
    assert found == [("tail-writable", int(said["kept"][0]), PAGE)]
    return first + 1, size


def facts_are_read_afresh_in_each_pass(said: Words) -> None:
    # The stress test switched HVO off while the guest was watched.
    assert said["optimizing"] == ["1"]
    assert json.loads(said["report"][0])["kernel"]["hvo"]["enabled"] is False
