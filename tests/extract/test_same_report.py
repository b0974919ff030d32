# SPDX-License-Identifier: LGPL-2.1-or-later

"""An extract that cannot give the report of its dump is not written."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import drgn
import pytest

from drgn_vmemmap.cli import command_line
from drgn_vmemmap.cli.exit_codes import CANNOT
from drgn_vmemmap.extract import recording
from drgn_vmemmap.extract.vmcore import Pieces, write_elf
from tests.damage.edited import EditedKernel
from tests.support import open_vmcore

WRITABLE = 1 << 1


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
    assert "nothing written: the file written gives another report" in line
    assert not [*tmp_path.iterdir()]


def test_a_drgn_before_0_1_0_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    prog = open_vmcore("head-reuse")
    monkeypatch.setattr(drgn, "Program", lambda platform: SimpleNamespace(platform=platform))
    assert command_line.run(["extract", str(tmp_path / "vmcore")], prog) == CANNOT
    assert "extract needs drgn 0.1.0" in capsys.readouterr().err
    assert not [*tmp_path.iterdir()]
