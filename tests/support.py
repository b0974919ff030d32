# SPDX-License-Identifier: LGPL-2.1-or-later

"""What many tests need: where things are, opening a recorded vmcore, running a command."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from functools import cache
from io import BytesIO, TextIOWrapper
from pathlib import Path
from typing import Any
from unittest import mock

import drgn

import drgn_vmemmap
from drgn_vmemmap import verify
from drgn_vmemmap.analysis.report import Report
from drgn_vmemmap.cli import command_line, crashes, launcher
from drgn_vmemmap.rules.finding import Finding, Severity
from tests.oracles.view import Found

ROOT = Path(__file__).parent.parent
"""Of the repository."""
PACKAGE = Path(drgn_vmemmap.__file__).parent
"""The package that is tested: the repository's, or one that is installed."""
BIN = Path(sys.executable).parent
"""The directory of the interpreter, and of what is installed with it."""


def program(name: str) -> Path:
    """An installed program: beside the interpreter, or else where PATH has it."""
    beside = BIN / name
    return beside if beside.exists() else Path(shutil.which(name) or beside)


DRGN = program("drgn")
COMMAND = program("drgn-vmemmap")
VMCORES = sorted((ROOT / "vmcores").glob("*.vmcore"))
"""The recorded vmcores."""


def examples(usual: int) -> int:
    """How many random cases a test tries: VMEMMAP_EXAMPLES, or else the usual number."""
    return int(os.environ.get("VMEMMAP_EXAMPLES", usual))


def vmcore(name: str) -> Path:
    """A recorded vmcore by its name."""
    return ROOT / "vmcores" / f"{name}.vmcore"


def report_file(name: str) -> Path:
    """The JSON report that is recorded beside a vmcore."""
    return vmcore(name).with_suffix(".json")


def recorded(name: str) -> dict[str, Any]:
    """The recorded report of a vmcore."""
    report: dict[str, Any] = json.loads(report_file(name).read_text())
    return report


def open_vmcore(of: str | Path) -> drgn.Program:
    """The program of a recorded vmcore by its name, or of any vmcore by its path."""
    prog = drgn.Program()
    prog.set_core_dump(str(vmcore(of) if isinstance(of, str) else of))
    return prog


@cache
def shared_vmcore(name: str) -> drgn.Program:
    """The program of a recorded vmcore, which tests share that only read it."""
    return open_vmcore(name)


@cache
def verified(path: Path) -> Report:
    """The report of a recorded vmcore, which several tests share and none changes."""
    return verify(open_vmcore(path))


def run(*command: object, **options: Any) -> subprocess.CompletedProcess[str]:
    """
    Run a command to its end, with its output as text.

    :param options: Of :func:`subprocess.run()`.
    """
    options = {"capture_output": True, "encoding": "utf-8", "timeout": 120, **options}
    done: subprocess.CompletedProcess[str] = subprocess.run([*map(str, command)], **options)
    return done


def vmemmap(*arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run the installed command."""
    return run(COMMAND, *arguments, **options)


def answer(
    *arguments: object, prog: drgn.Program | None = None, stdin: bytes = b""
) -> subprocess.CompletedProcess[str]:
    """
    Run the command in this process, where a test is not about the process itself.

    :param prog: The target. Without one, the command must end before drgn opens it.
    """
    words = [*map(str, arguments)]
    out, err = (TextIOWrapper(BytesIO(), "utf-8") for _ in range(2))
    text = TextIOWrapper(BytesIO(stdin), "utf-8")
    streams: dict[str, Any] = {"stdin": text, "stdout": out, "stderr": err}
    opened = AssertionError("drgn would open a target in this process")
    process = mock.patch.multiple(sys, argv=["drgn-vmemmap", *words], **streams)
    in_drgn = mock.patch("runpy.run_module", side_effect=opened)
    with process, in_drgn, mock.patch.object(crashes, "continue_in_child"):
        try:
            code = launcher.run() if prog is None else command_line.run(words, prog)
        except SystemExit as exit_:
            assert isinstance(exit_.code, int)
            code = exit_.code
    texts = []
    for stream in (out, err):
        stream.flush()
        texts.append(stream.buffer.getvalue().decode())
    return subprocess.CompletedProcess(words, code, *texts)


class BareDrgn:
    """drgn's command in a Python that sees drgn, by links, and no other package."""

    def __init__(self, site: Path) -> None:
        """
        :param site: The directory of its packages, which is made.
        """
        self.site = site
        site.mkdir()
        packages = Path(drgn.__file__).parent.parent
        for path in packages.glob("*drgn*"):
            if path.suffix == ".so" or path.name in ("drgn", "_drgn_util", "drgn.libs"):
                (site / path.name).symlink_to(path)

    def run(self, *arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run it without a message at its start."""
        # By its own path, the interpreter does not see the virtual environment of this test.
        python = os.path.realpath(sys.executable)
        options = {"env": {**os.environ, "PYTHONPATH": str(self.site)}, **options}
        return run(python, "-S", "-m", "drgn", "-q", *arguments, **options)


def refused(done: subprocess.CompletedProcess[str], code: int, *words: str) -> None:
    """One line on standard error says what is wrong; there is no result, and no traceback."""
    assert done.returncode == code
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("drgn-vmemmap: ")
    assert all(word in line for word in words), line


def findings_of(report: Report) -> list[Found]:
    """A report's findings, without their words."""
    return [Found(f.rule, f.severity.value, f.folio, f.index) for f in report.findings]


def errors_of(report: Report) -> list[Finding]:
    """A report's findings of severity error."""
    return [finding for finding in report.findings if finding.severity is Severity.ERROR]


def says_where(error: Finding) -> bool:
    """Whether an error has an address, and what should be there unless that is on a list."""
    is_complete = bool(error.expected) or error.rule == "list-corrupt"
    return error.address is not None and is_complete
