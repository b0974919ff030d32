# SPDX-License-Identifier: LGPL-2.1-or-later

"""An extract lists the parts of pages that it has; where the list is damaged, none is made up."""

from __future__ import annotations

from pathlib import Path

import pytest

from drgn_vmemmap import verify
from drgn_vmemmap.rules.finding import Severity
from drgn_vmemmap.target.recorded_pages import Marks, marks_in
from tests.damage.dumps import flattened
from tests.support import open_vmcore, vmcore

EXTRACT = vmcore("head-reuse").read_bytes()
TITLE = EXTRACT.rindex(b"drgn-vmemmap: ")
LIST = EXTRACT.index(b"\n", TITLE) + 1
LINES = EXTRACT[LIST:].splitlines(keepends=True)
SOUND = marks_in(str(vmcore("head-reuse")))
PFNS = sorted(SOUND.parts)


def marks(tmp_path: Path, data: bytes) -> Marks:
    path = tmp_path / "vmcore"
    path.write_bytes(data)
    return marks_in(str(path))


def with_line(number: int, line: bytes) -> bytes:
    return EXTRACT[:LIST] + b"".join((*LINES[:number], line, *LINES[number + 1 :]))


def unread(marks: Marks) -> list[int]:
    """The pages recorded in part that are not read; all others are read as the sound list says."""
    hidden = [pfn for pfn in PFNS if pfn in marks.unknown and pfn not in marks.parts]
    assert all(marks.parts[pfn] == SOUND.parts[pfn] for pfn in PFNS if pfn not in hidden)
    return hidden


def test_a_sound_list_leaves_no_page_unknown() -> None:
    assert not SOUND.unknown
    assert len(PFNS) == len(LINES)


def test_the_list_of_a_flattened_extract_is_read_where_its_pieces_have_it(tmp_path: Path) -> None:
    assert marks(tmp_path, flattened(EXTRACT, 1000)) == SOUND
    cut_off = flattened(EXTRACT, len(LINES[-1]))[: -len(LINES[-1]) - 32]
    assert unread(marks(tmp_path, cut_off)) == PFNS[-1:]


@pytest.mark.parametrize("lines", (0, 1, 20))
def test_pages_whose_lines_are_cut_off_are_not_read(tmp_path: Path, lines: int) -> None:
    end = LIST + sum(map(len, LINES[:lines]))
    assert unread(marks(tmp_path, EXTRACT[:end])) == PFNS[lines:]
    assert unread(marks(tmp_path, EXTRACT[: end + 5])) == PFNS[lines:]


@pytest.mark.parametrize("end", (TITLE - 1, TITLE, TITLE + 1, LIST - 1))
def test_where_the_list_is_cut_off_within_its_title_no_page_is_read(
    tmp_path: Path, end: int
) -> None:
    found = marks(tmp_path, EXTRACT[:end])
    assert unread(found) == PFNS
    assert 0 in found.unknown


@pytest.mark.parametrize(
    ("line", "is_ordered"),
    ((b"zz 0-40\n", True), (b"-1 0-40\n", True), (b"0 0-40\n", False), (b"fffffff 0-40\n", False)),
)
def test_a_page_whose_line_is_damaged_is_not_read(
    tmp_path: Path, line: bytes, is_ordered: bool
) -> None:
    found = marks(tmp_path, with_line(5, line.rjust(len(LINES[5]))))
    assert unread(found) == [PFNS[5]]
    if is_ordered:
        assert found.unknown == range(PFNS[4] + 1, PFNS[6])


def test_pages_between_two_damaged_lines_are_read_where_they_are_listed(tmp_path: Path) -> None:
    data = with_line(5, b"?".rjust(len(LINES[5]) - 1) + b"\n")
    data = data.replace(LINES[9], b"?".rjust(len(LINES[9]) - 1) + b"\n")
    found = marks(tmp_path, data)
    assert unread(found) == [PFNS[5], PFNS[9]]
    assert found.unknown == range(PFNS[4] + 1, PFNS[10])


def test_what_a_cut_off_list_hides_is_not_held_against_the_kernel(tmp_path: Path) -> None:
    path = tmp_path / "vmcore"
    path.write_bytes(EXTRACT[:-1])
    found = verify(open_vmcore(path)).findings
    assert [f for f in found if f.severity is Severity.ERROR] == []
    assert any(f.rule == "unreadable" for f in found)
