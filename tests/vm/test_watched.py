# SPDX-License-Identifier: LGPL-2.1-or-later

"""A guest that watches itself under stress, half-way of which something breaks."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from drgn_vmemmap.cli.exit_codes import FOUND_ERRORS
from tests.vm.test_kernels import Record
from tests.vm.test_live import kept, let_go, make_writable
from vmcores.recipe import MissingError, boot
from vmcores.recipe.guest import Words

SOON = 5.0
"""Seconds in which an emulated machine, on a busy one, sees Ctrl-C; others do in half a second."""

PAGE = 3
"""Index of the vmemmap page that becomes writable."""


def test_a_fault_under_stress_is_found_by_the_guest_itself_and_its_first_moment_left(
    tmp_path: Path, record_property: Record
) -> None:
    try:
        guest = boot("newest", "watched", tmp_path)
    except MissingError as error:
        pytest.skip(str(error))
    with guest:
        guest.wait_for("halfway")
        make_writable(guest, kept(guest), PAGE)
        let_go()
        said = guest.wait_for("done")
    number = the_fault_is_found_and_nothing_before_it(said)
    size = its_first_moment_is_left(said)
    code, signalled, ended = said["watched"][0].split()
    assert int(code) == FOUND_ERRORS
    # The stress test interrupts the one who watches.
    seconds = float(ended) - float(signalled)
    assert seconds < SOON
    record_property(
        "note",
        f"watched under stress: a fault half-way was found in pass {number}, and left {size} "
        f"bytes; Ctrl-C ended it after {seconds:.2f} s",
    )


def the_fault_is_found_and_nothing_before_it(said: Words) -> int:
    """Returns the number of the pass that found it."""
    lines = map(json.loads, said["output"])
    passes = [line for line in lines if line["hstate"] == "hugepages-2048kB"]
    assert sum(each["moved"] for each in passes)
    *before, last = [each["broken"] for each in passes]
    assert before and before == [[]] * len(before)
    assert last == ["tail-writable"]
    assert "A stray write to a tail" in "\n".join(said["errors"])
    return len(passes)


def its_first_moment_is_left(said: Words) -> str:
    """Returns the size of the vmcore in bytes."""
    count, name, size = said["extract"][0].split()
    assert (int(count), name.rpartition("-")[0]) == (1, "vmcore-tail-writable")
    assert int(said["verified"][0]) == FOUND_ERRORS
    report = json.loads(said["report"][0])
    found = [
        (finding["rule"], finding["folio"], finding["index"])
        for finding in report["findings"]
        if finding["severity"] == "error"
    ]
    assert found == [("tail-writable", int(said["kept"][0]), PAGE)]
    # Facts are read afresh in each pass: the stress test switched HVO off meanwhile.
    assert said["optimizing"] == ["1"]
    assert report["kernel"]["hvo"]["enabled"] is False
    return size
