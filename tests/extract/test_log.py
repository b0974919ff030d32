# SPDX-License-Identifier: LGPL-2.1-or-later

"""An extract has the kernel's log if it is asked for, of an extract too."""

from __future__ import annotations

from pathlib import Path

import pytest

from drgn_vmemmap.cli import command_line
from drgn_vmemmap.cli.exit_codes import DONE
from tests.support import open_vmcore


@pytest.mark.long
def test_a_log_that_was_written_is_explained_as_in_the_dump(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prog, path = open_vmcore("oops"), tmp_path / "vmcore"
    assert command_line.run(["extract", "--log", "--compress", str(path)], prog) == DONE
    capsys.readouterr()
    shown = []
    for each in (prog, open_vmcore(path)):
        assert command_line.run(["explain", "--dmesg"], each) == DONE
        shown.append(capsys.readouterr().out)
    assert shown[0] == shown[1] and "log: BUG: unable to handle page fault" in shown[0]
