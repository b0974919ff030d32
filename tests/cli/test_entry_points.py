# SPDX-License-Identifier: LGPL-2.1-or-later

"""All entry points answer alike."""

from __future__ import annotations

import json
import os
import sys
import zipfile
from pathlib import Path

import pytest

import drgn_vmemmap
from tests.support import DRGN, PACKAGE, ROOT, BareDrgn, answer, open_vmcore, run, vmcore, vmemmap

VMCORE = vmcore("head-reuse")


@pytest.mark.long
@pytest.mark.parametrize(
    "arguments",
    (
        (),
        ("--help",),
        ("-V",),
        ("--folios", "--format", "csv", "report"),
        ("report", "--nonsense"),
        ("extract", "/"),
    ),
)
def test_all_entry_points_answer_alike(bundle: Path, arguments: tuple[str, ...]) -> None:
    installed = vmemmap("-c", VMCORE, *arguments)
    main = PACKAGE / "__main__.py"
    for done in (
        run(DRGN, "-q", "-c", VMCORE, bundle, *arguments),
        run(DRGN, "-q", "-c", VMCORE, main, *arguments),
        run(sys.executable, bundle, "-c", VMCORE, *arguments),
        run(sys.executable, "-m", "drgn_vmemmap", *arguments, "-c", VMCORE, cwd=ROOT),
    ):
        assert (done.returncode, done.stdout) == (installed.returncode, installed.stdout)
        assert done.stderr == installed.stderr


@pytest.mark.long
def test_the_bundle_runs_where_only_drgn_is(
    bundle: Path, bare_drgn: BareDrgn, shown: str, tmp_path: Path
) -> None:
    done = bare_drgn.run("-c", VMCORE, bundle, cwd=tmp_path)
    # From another directory, the dump is named by its whole path.
    assert (done.returncode, done.stdout.replace(f"{ROOT}/", "")) == (0, shown)


def test_a_script_runs_its_own_code_where_another_release_is_installed(
    bundle: Path, bare_drgn: BareDrgn, tmp_path: Path
) -> None:
    # drgn loads the installed release first, as a plugin.
    release = bare_drgn.site / "drgn_vmemmap"
    release.mkdir()
    (release / "__init__.py").touch()
    (release / "plugin.py").write_text("print('the plugin is loaded')\n")
    information = bare_drgn.site / "drgn_vmemmap-0.0.9.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Name: drgn-vmemmap\nVersion: 0.0.9\n")
    entry = "[drgn.plugins]\nvmemmap = drgn_vmemmap.plugin\n"
    (information / "entry_points.txt").write_text(entry)
    for script in (bundle, PACKAGE / "__main__.py"):
        done = bare_drgn.run("-c", VMCORE, script, "-V", cwd=tmp_path)
        shown = f"the plugin is loaded\ndrgn-vmemmap {drgn_vmemmap.__version__}\n"
        assert (done.returncode, done.stdout) == (0, shown), done.stderr


@pytest.mark.long
@pytest.mark.parametrize("path", ("drgn_vmemmap", "../here/drgn_vmemmap"))
def test_the_bundle_makes_the_page_by_whatever_path_it_is_run(
    path: str, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    (here / "drgn_vmemmap").symlink_to(bundle)
    arguments = ("--format", "html")
    page = answer(*arguments, prog=open_vmcore(VMCORE)).stdout
    for command in (
        (sys.executable, path, "-c", VMCORE),
        (DRGN, "-q", "-c", VMCORE, path),
    ):
        done = run(*command, *arguments)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout == page


@pytest.mark.parametrize("disabled", (None, "mine"))
def test_drgn_opens_the_target_without_crashs_commands(
    disabled: str | None, tmp_path: Path
) -> None:
    """What the user disabled is disabled for the command that ``watch`` starts, and no more."""
    probe = tmp_path / "probe.py"
    probe.write_text(
        "import os, sys\n"
        "from drgn_vmemmap.cli import command_line\n"
        "def run(arguments, prog):\n"
        "    print(os.environ.get('DRGN_DISABLE_PLUGINS'), 'drgn.commands._crash' in sys.modules)\n"
        "    return 0\n"
        "command_line.run = run\n"
    )
    environment = {**os.environ, "DRGN_PLUGINS": f"probe={probe}"}
    environment.pop("DRGN_DISABLE_PLUGINS", None)
    if disabled is not None:
        environment["DRGN_DISABLE_PLUGINS"] = disabled
    done = vmemmap("-c", VMCORE, env=environment)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{disabled} False\n", "")


def test_a_script_does_not_end_a_process_of_drgns_that_goes_on() -> None:
    code = f"""
import gc, runpy, sys
sys.argv = ["drgn_vmemmap", "rules", "tail-writable"]
before = gc.get_threshold(), gc.get_freeze_count()
try:
    runpy.run_path({str(PACKAGE / "__main__.py")!r}, run_name="__main__")
except SystemExit as ended:
    print("the script ended with", ended.code)
assert (gc.get_threshold(), gc.get_freeze_count()) == before
"""
    done = run(DRGN, "-q", "-c", VMCORE, "-e", code)
    assert (done.returncode, done.stderr) == (0, "")
    shown = answer("rules", "tail-writable").stdout
    assert done.stdout == shown + "the script ended with 0\n"


def test_what_others_do_at_the_end_of_a_process_is_done() -> None:
    code = """
import atexit, sys
from drgn_vmemmap.cli.launcher import main
atexit.register(print, "the end")
sys.argv = ["drgn-vmemmap", *sys.argv[1:]]
main()
"""
    for target, prog, arguments in (
        ((), None, ("rules", "tail-writable")),
        (("-c", VMCORE), open_vmcore(VMCORE), ("--format", "json")),
    ):
        done = run(sys.executable, "-c", code, *target, *arguments)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout == answer(*arguments, prog=prog).stdout + "the end\n"


def test_the_bundle_carries_the_licences_of_what_is_in_it(bundle: Path) -> None:
    assert any(name.startswith("licences/tabulate/") for name in zipfile.ZipFile(bundle).namelist())


def test_the_prompt_has_the_command_with_pipes_and_redirections(shown: str, tmp_path: Path) -> None:
    written = tmp_path / "written"
    code = f"""
from drgn.commands import run_command
run_command(prog, "vmemmap report --folios | head -n 1")
run_command(prog, "vmemmap report > {written}")
run_command(prog, "vmemmap nonsense")
"""
    done = run(DRGN, "-q", "-c", VMCORE, "-e", code)
    assert done.returncode == 0
    assert done.stdout == shown.splitlines(keepends=True)[0]
    assert written.read_text() == shown
    assert len(done.stderr.splitlines()) == 1


def test_python_gets_the_same_report() -> None:
    prog = open_vmcore(VMCORE)
    totals = drgn_vmemmap.examine(prog).totals
    shown = json.loads(answer("--format", "json", prog=prog).stdout)["totals"]
    assert totals.counts.freed == shown["freed"] == 448
    assert totals.net_saved_bytes == shown["net_saved_bytes"]
