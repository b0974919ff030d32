# SPDX-License-Identifier: LGPL-2.1-or-later

"""
The documents: every command that they show runs, and every output is the tool's.

In a ``console`` block, a line that begins with ``$`` is a command, and the lines after it are its
output; ``...`` stands for lines that are left out.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest

from drgn_vmemmap.cli import options
from drgn_vmemmap.cli.command import subparsers
from drgn_vmemmap.cli.parser import parser
from tests.support import BIN, ROOT, VMCORES, recorded

DOCUMENTS = sorted(
    [ROOT / "README.md", *(ROOT / "contrib").rglob("*.md")]
    + [ROOT / folder / "README.md" for folder in ("drgn_vmemmap", "tests", "vmcores")]
)

_BLOCK = re.compile(r"^```console\n(.*?)^```", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\((?!https?:)([^)#]+)\)")
_COMMANDS = subparsers(parser())
_SHOWN = re.compile(rf"`(?:drgn-vmemmap |(?=(?:{'|'.join(_COMMANDS)}) -))([^`]*)`")


class Shown(NamedTuple):
    """The commands that a block of a document shows, one after the other, and their outputs."""

    document: Path
    commands: list[tuple[str, str]]

    def __str__(self) -> str:
        return f"{self.document.relative_to(ROOT)}: {self.commands[0][0]}"


def shown(document: Path) -> list[Shown]:
    found = []
    for block in _BLOCK.findall(document.read_text()):
        parts = re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]
        pairs = [part.partition("\n") for part in parts]
        if pairs:
            found.append(Shown(document, [(command, output) for command, _, output in pairs]))
    return found


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the documents' relative paths lead where they should."""
    place = tmp_path_factory.mktemp("documents")
    for name in ("contrib", "vmcores"):
        shutil.copytree(ROOT / name, place / name)
    return place


@pytest.mark.long
@pytest.mark.parametrize("example", [s for d in DOCUMENTS for s in shown(d)], ids=str)
def test_a_command_prints_what_the_document_shows(example: Shown, workplace: Path) -> None:
    environment = {
        **{key: value for key, value in os.environ.items() if not key.startswith("LC_")},
        "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
        "COLUMNS": "80",
        "LANG": "C.UTF-8",
        "NO_COLOR": "1",
    }
    for command, output in example.commands:
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=workplace,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        pattern = ".*".join(re.escape(part) for part in output.split("...\n"))
        assert re.fullmatch(pattern, done.stdout, re.DOTALL), done.stdout


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_link_leads_to_a_file(document: Path) -> None:
    for target in _LINK.findall(document.read_text()):
        assert (document.parent / target).exists(), target


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_command_in_a_sentence_is_one_that_the_tool_has(document: Path) -> None:
    for command in _SHOWN.findall(document.read_text()):
        shown = command.partition(" -- ")[0].replace("COMMAND", "report")
        _, words = options.split(shown.split())
        name = words.pop(0) if words and words[0][0] != "-" else "report"
        assert name in _COMMANDS, command
        used = {word for word in words if word.startswith("-")}
        assert used <= _COMMANDS[name]._option_string_actions.keys(), command


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().split()) <= 900


def test_each_recorded_vmcore_is_listed_with_its_kernel_and_size() -> None:
    rows = re.findall(
        r"^\| `([\w-]+)` \| (\S+) \| ([\d,]+) \|",
        (ROOT / "vmcores" / "README.md").read_text(),
        re.MULTILINE,
    )
    listed = {name: (release, int(size.replace(",", ""))) for name, release, size in rows}
    assert listed == {
        path.stem: (recorded(path.stem)["kernel"]["release"], path.stat().st_size)
        for path in VMCORES
    }
