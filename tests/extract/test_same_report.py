# SPDX-License-Identifier: LGPL-2.1-or-later

"""An extract that cannot give the report of its dump is not written."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import drgn
import pytest

from drgn_vmemmap.cli import command_line
from drgn_vmemmap.cli.exit_codes import CANNOT
from drgn_vmemmap.errors import CannotAnalyse
from drgn_vmemmap.extract import recording
from drgn_vmemmap.extract.comparison import check_findings
from drgn_vmemmap.extract.vmcore import Pieces, write_elf
from tests.damage.edited import EditedKernel
from tests.extract.machine import SECRET
from tests.support import open_vmcore
from tests.synthetic.image import Image
from tests.synthetic.kernels import LINES, ONE_OF_EACH_LAYOUT
from tests.synthetic.model import FIRST_FOLIO, Folio, Machine
from tests.synthetic.physical import PAGE_SIZE

WRITABLE = 1 << 1

USERS = FIRST_FOLIO + 512 * 20
"""A frame that the image does not have."""


@pytest.mark.long
def test_a_file_that_gives_another_report_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    kernel = EditedKernel(open_vmcore("head-reuse"))
    entry = kernel.walker().entry(kernel.kernel.geometry.address(kernel.optimized[0]) + 3 * 4096)

    def write_damaged(path: Path, vmcoreinfo: bytes, pieces: Pieces) -> None:
        (start,) = (at for at, data in pieces.items() if 0 <= entry.raw_address - at < len(data))
        damaged = bytearray(pieces[start])
        damaged[entry.raw_address - start] |= WRITABLE
        write_elf(path, vmcoreinfo, {**pieces, start: bytes(damaged)})

    monkeypatch.setattr(recording, "write_elf", write_damaged)
    path = tmp_path / "vmcore"
    assert command_line.run(["extract", str(path)], kernel.prog) == CANNOT
    (line,) = capsys.readouterr().err.splitlines()
    assert "nothing written: the extract gives another report" in line
    assert not [*tmp_path.iterdir()]


def damaged(release: str) -> tuple[Image, EditedKernel]:
    folios = (Folio(FIRST_FOLIO + 512 * number) for number in range(4))
    image = Image(Machine(line=LINES[release], folios=tuple(folios)))
    return image, EditedKernel(image.prog)


def check_without(frames: set[int], kernel: EditedKernel) -> None:
    """Compare a kernel's report with that of a file from which some frames were withheld."""
    report = kernel.check()
    assert report.broken
    kernel.memory.missing |= frames
    check_findings(report, kernel.check())


@pytest.mark.parametrize("release", ONE_OF_EACH_LAYOUT)
def test_what_is_said_of_a_folio_whose_head_is_mapped_to_a_users_page_is_no_new_fault(
    release: str,
) -> None:
    image, kernel = damaged(release)
    image.memory.frames[USERS] = SECRET
    kernel.write_entry(FIRST_FOLIO, 0, kernel.entry(FIRST_FOLIO, 0) % PAGE_SIZE | USERS << 12)
    check_without({USERS}, kernel)


@pytest.mark.parametrize("release", ONE_OF_EACH_LAYOUT)
def test_what_is_said_of_two_heads_in_memory_of_users_is_no_new_fault(release: str) -> None:
    """The first one ends the list, so that nothing leads to the other, whose frame tails share."""
    _, kernel = damaged(release)
    frames = {kernel.frame(FIRST_FOLIO + 512 * number, 0) for number in (0, 2)}
    for frame in frames:
        kernel.write_member(frame, "mapping", 0xFFFF888000001001)
    check_without(frames, kernel)


def test_a_fault_that_only_the_file_written_has_is_a_bug() -> None:
    _, kernel = damaged("6.12.0")
    kernel.write_entry(FIRST_FOLIO, 3, kernel.entry(FIRST_FOLIO, 3) | WRITABLE)
    with pytest.raises(CannotAnalyse, match="gives tail-writable, which this dump does not"):
        check_findings(kernel.before, kernel.check())


def test_a_drgn_before_0_1_0_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    prog = open_vmcore("head-reuse")
    monkeypatch.setattr(drgn, "Program", lambda platform: SimpleNamespace(platform=platform))
    assert command_line.run(["extract", str(tmp_path / "vmcore")], prog) == CANNOT
    assert "extract needs drgn 0.1.0" in capsys.readouterr().err
    assert not [*tmp_path.iterdir()]
