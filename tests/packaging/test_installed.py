# SPDX-License-Identifier: LGPL-2.1-or-later

"""The wheel, installed with drgn and tabulate alone: all entry points, and what goes with them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.packaging.environment import Environment, check
from tests.packaging.reports import is_recorded
from tests.support import VMCORES, recorded, refused

COMMANDS = (
    ("drgn-vmemmap", "-c", "{vmcore}"),
    ("python", "-m", "drgn_vmemmap", "-c", "{vmcore}"),
    ("drgn", "-q", "-c", "{vmcore}", "{bundle}"),
    ("python", "{bundle}", "-c", "{vmcore}"),
    ("drgn", "-q", "-c", "{vmcore}", "{package}/__main__.py"),
)
"""The entry points of the shell."""

API = """
import json, sys, drgn, drgn_vmemmap
prog = drgn.Program()
prog.set_core_dump(sys.argv[1])
report = drgn_vmemmap.verify(prog)
print(json.dumps([len(report.folios), [finding.rule for finding in report.findings]]))
"""


@pytest.fixture(scope="module")
def package(plain: Environment) -> Path:
    """The directory of the installed package."""
    ask = "import drgn_vmemmap; print(drgn_vmemmap.__file__)"
    package = Path(plain.run("python", "-c", ask).stdout.strip()).parent
    assert package.parent.name == "site-packages"
    assert package.is_relative_to(plain.directory)
    return package


def test_it_needs_drgn_and_tabulate_alone(plain: Environment) -> None:
    assert plain.installed().keys() - {"pip", "setuptools"} == {"drgn", "drgn-vmemmap", "tabulate"}


@pytest.mark.parametrize("vmcore", VMCORES, ids=lambda path: path.stem)
@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: " ".join(command[:3]))
def test_each_entry_point_gives_the_recorded_report(
    plain: Environment, package: Path, bundle: Path, vmcore: Path, command: tuple[str, ...]
) -> None:
    words = [word.format(vmcore=vmcore, bundle=bundle, package=package) for word in command]
    done = plain.run(*words, "verify", "--format", "json")
    assert done.stderr == ""
    assert is_recorded(done.stdout, vmcore.stem)


@pytest.mark.parametrize("vmcore", VMCORES, ids=lambda path: path.stem)
def test_python_gets_the_recorded_report(plain: Environment, vmcore: Path) -> None:
    done = plain.run("python", "-c", API, vmcore)
    report = recorded(vmcore.stem)
    assert done.stderr == ""
    assert json.loads(done.stdout) == [
        len(report["folios"]),
        [finding["rule"] for finding in report["findings"]],
    ]


def test_the_prompt_has_the_command(plain: Environment, tmp_path: Path) -> None:
    written = tmp_path / "written"
    lines = ("%vmemmap report --folios | head -n 1", f"%vmemmap verify > {written}", "exit()")
    done = at_the_prompt(plain, *lines)
    expected = plain.run("drgn-vmemmap", "-c", VMCORES[0], "verify").stdout
    assert expected.splitlines()[0] in done.splitlines()
    assert written.read_text() == expected


def at_the_prompt(environment: Environment, *lines: str) -> str:
    """What drgn's prompt prints on a terminal on which these lines are typed."""
    options = environment.options()
    options["env"]["TERM"] = "dumb"
    shell = f"{environment.bin}/drgn -q -c {VMCORES[0]}"
    typed = "".join(f"{line}\n" for line in lines)
    return check(
        "script", "--quiet", "--command", shell, "/dev/null", input=typed, **options
    ).stdout


def test_the_manual_page_is_installed(plain: Environment) -> None:
    if shutil.which("man") is None:
        pytest.skip("not installed: man-db")
    page = plain.directory / "share" / "man" / "man1" / "drgn-vmemmap.1"
    options = plain.options()
    options["env"] |= {"MANWIDTH": "80", "LC_ALL": "C.UTF-8"}
    done = check("man", "--warnings", "-l", page, **options)
    assert done.stderr == ""
    for title in ("NAME", "SYNOPSIS", "COMMANDS", "RULES", "EXIT STATUS", "SEE ALSO"):
        assert title in done.stdout.splitlines()
    assert max(map(len, done.stdout.splitlines())) <= 80


@pytest.mark.parametrize(
    ("arguments", "library"),
    (
        (("--print-completion", "bash"), "shtab"),
        (("-c", VMCORES[0], "--format", "html"), "jinja2"),
        (("-c", VMCORES[0], "extract", "vmcore"), "kdumpling"),
    ),
)
def test_what_needs_another_library_names_it(
    plain: Environment, arguments: tuple[object, ...], library: str
) -> None:
    done = plain.run("drgn-vmemmap", *arguments)
    refused(done, 2, f"pip install {library}")
    assert "drgn-vmemmap[" not in done.stderr


@pytest.mark.parametrize("shell", ("bash", "zsh"))
def test_completions_are_printed(complete: Environment, shell: str) -> None:
    script = complete.run("drgn-vmemmap", "--print-completion", shell)
    assert (script.returncode, script.stderr) == (0, "")
    if shutil.which(shell):
        check(shell, "-n", input=script.stdout)
    assert "verify" in script.stdout
