# SPDX-License-Identifier: LGPL-2.1-or-later

"""Options that several commands have mean the same everywhere."""

from __future__ import annotations

from pathlib import Path

import drgn
import pytest

from drgn_vmemmap import api
from drgn_vmemmap.cli import command_line
from drgn_vmemmap.cli.command import subparsers
from drgn_vmemmap.cli.exit_codes import CANNOT
from drgn_vmemmap.cli.parser import parser
from tests.support import open_vmcore, report_file, vmcore
from tests.synthetic.image import Image
from tests.synthetic.model import FIRST_FOLIO, Folio, Machine

WITH_OUTPUT = (
    ("report",),
    ("verify",),
    ("explain", f"pfn:{FIRST_FOLIO:#x}"),
    ("rules",),
    ("map",),
    ("diff", str(report_file("head-reuse")), str(report_file("hvo-off"))),
)
DUMP = str(vmcore("head-reuse"))
WITH_SYSTEM_MAP = (
    *(words for words in WITH_OUTPUT if words[0] not in ("rules", "diff")),
    ("watch",),
    ("diff", DUMP, DUMP),
    ("extract", "/no/vmcore"),
)


def having(option: str) -> set[str]:
    """The commands that have an option."""
    return {n for n, each in subparsers(parser()).items() if option in each._option_string_actions}


@pytest.fixture(scope="module")
def prog() -> drgn.Program:
    return Image(Machine(folios=(Folio(FIRST_FOLIO),))).prog


@pytest.mark.parametrize("words", WITH_OUTPUT, ids=" ".join)
def test_what_is_written_to_a_file_is_what_is_shown(
    words: tuple[str, ...], prog: drgn.Program, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = command_line.run(words, prog)
    shown = capsys.readouterr().out
    path = tmp_path / "file"
    assert command_line.run([*words, "--output", str(path)], prog) == code != CANNOT
    assert capsys.readouterr().out == ""
    assert path.read_text() == shown != ""


@pytest.fixture(scope="module")
def recorded() -> drgn.Program:
    return open_vmcore("head-reuse")


@pytest.mark.parametrize("words", WITH_SYSTEM_MAP, ids=lambda words: words[0])
def test_symbols_are_read_from_a_system_map(
    words: tuple[str, ...],
    recorded: drgn.Program,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(api, "is_live", lambda prog: words == ("watch",))
    assert command_line.run([*words, "--system-map", "/dev/null"], recorded) == CANNOT
    assert "/dev/null is no System.map" in capsys.readouterr().err


def test_these_are_all_commands_that_have_them() -> None:
    assert having("--output") == {words[0] for words in WITH_OUTPUT}
    assert having("--system-map") == {words[0] for words in WITH_SYSTEM_MAP}
