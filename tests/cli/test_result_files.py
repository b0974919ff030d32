# SPDX-License-Identifier: LGPL-2.1-or-later

"""Results go to files, pipes and devices: completely, or with one line that says why not."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from drgn_vmemmap import api
from drgn_vmemmap.cli import command_line
from drgn_vmemmap.cli.exit_codes import FOUND_ERRORS
from tests.damage.edited import EditedKernel
from tests.support import (
    COMMAND,
    DRGN,
    PACKAGE,
    answer,
    refused,
    report_file,
    run,
    shared_vmcore,
    vmcore,
    vmemmap,
)

VMCORE = vmcore("head-reuse")


def test_a_reader_that_leaves_early_is_no_error() -> None:
    command = f"{COMMAND} -c {VMCORE} --folios | head -n 1"
    done = run("bash", "-o", "pipefail", "-c", command)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("words", ("diff {0} {1}", "diff --format json {0} {1}", "verify"))
def test_a_reader_that_leaves_early_does_not_change_the_exit_code(
    words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = EditedKernel(shared_vmcore("head-reuse"))
    broken.write_entry(broken.optimized[0], 3, 0)
    monkeypatch.setattr(api, "verify", lambda *_, **__: broken.check())
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "w") as output:
        monkeypatch.setattr("sys.stdout", output)
        arguments = words.format(report_file("head-reuse"), report_file("hvo-off")).split()
        assert command_line.run(arguments, broken.prog) == FOUND_ERRORS


@pytest.mark.parametrize("arguments", ("--help", "verify --help", "--version"))
def test_help_that_cannot_be_written_is_an_error(arguments: str) -> None:
    for output, reason in ((">/dev/full", "No space left"), (">&-", "standard output is closed")):
        refused(run("bash", "-c", f"{COMMAND} {arguments} {output}"), 2, reason)


def without_coverage() -> dict[str, str]:
    """The environment of a process that can write no large file: coverage.py would want to."""
    return {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}


def test_a_result_of_which_a_part_is_written_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "help"
    for unbuffered in "", "1":
        environment = {**without_coverage(), "PYTHONUNBUFFERED": unbuffered}
        done = run("bash", "-c", f"ulimit -f 1; {COMMAND} --help > {path}", env=environment)
        refused(done, 2, "File too large")
        assert path.stat().st_size == 1024


def test_a_result_goes_to_a_file_completely(shown: str, tmp_path: Path) -> None:
    path = tmp_path / "report"
    assert vmemmap("-c", VMCORE, "-o", path).stdout == ""
    assert path.read_text() == shown
    assert list(tmp_path.iterdir()) == [path]
    prog = shared_vmcore("head-reuse")
    refused(answer("-o", tmp_path / "no" / "report", prog=prog), 2, "No such file")


def _flattened(data: bytes) -> bytes:
    return b"makedumpfile".ljust(4096, b"\0") + data


@pytest.mark.parametrize("kind", ("kdump", "ELF", "flattened"))
def test_a_dump_is_not_replaced(kind: str, tmp_path: Path) -> None:
    path, link = tmp_path / "vmcore", tmp_path / "link"
    content = VMCORE.read_bytes()
    if kind != "kdump":
        content = _flattened(content) if kind == "flattened" else b"\x7fELF".ljust(16) + b"\4\0"
    path.write_bytes(content)
    link.symlink_to(path)
    prog = shared_vmcore("head-reuse")
    for command in (
        ("-o", path),
        ("verify", "--format", "json", "-o", link),
        ("diff", VMCORE, VMCORE, "-o", path),
        ("rules", "-o", path),
        ("bundle", path),
    ):
        refused(answer(*command, prog=prog), 2, "is a dump, and not replaced")
        assert path.read_bytes() == content


def test_a_file_with_symbols_is_not_replaced(tmp_path: Path) -> None:
    symbols = tmp_path / "vmlinux"
    shutil.copyfile(sys.executable, symbols)
    before = symbols.read_bytes()
    for command in (("-c", VMCORE, "-o", symbols), ("rules", "-o", symbols), ("bundle", symbols)):
        refused(answer(*command), 2, "is an ELF file, and not replaced")
    assert symbols.read_bytes() == before


def test_what_a_result_is_made_from_is_not_replaced(tmp_path: Path) -> None:
    report, log = tmp_path / "report.json", tmp_path / "log"
    report.write_bytes(report_file("head-reuse").read_bytes())
    log.write_text("Memory failure: 0x2ec5: recovery action for huge page: Recovered\n")
    before = report.read_bytes(), log.read_bytes()
    words = ("-c", VMCORE, "--vmcoreinfo", log, "-o", log)
    refused(answer(*words), 2, str(log), "give another name")
    for which in ((report, VMCORE), (VMCORE, report)):
        refused(answer("diff", *which, "-o", report), 2, str(report), "give another name")
    for options in ("", f"-c {VMCORE}"):
        command = f"{COMMAND} {options} explain --stdin -o {log} < {log}"
        refused(run("bash", "-c", command), 2, str(log), "give another name")
    assert (report.read_bytes(), log.read_bytes()) == before


def test_a_dash_is_standard_output(shown: str, tmp_path: Path) -> None:
    done = run("bash", "-c", f"cd {tmp_path} && {COMMAND} -c {VMCORE} -o -")
    assert done.stdout.splitlines()[1:] == shown.splitlines()[1:]
    assert list(tmp_path.iterdir()) == []


def test_a_name_that_is_none_is_refused(tmp_path: Path) -> None:
    prog = shared_vmcore("head-reuse")
    refused(answer("-o", "", prog=prog), 2, "the name is empty")
    refused(answer("-o", f"{tmp_path}/new/", prog=prog), 2, f"{tmp_path}/new/: Is a directory")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.long
@pytest.mark.parametrize("option", ("-o", "--output"))
def test_a_result_goes_through_links_and_to_devices(
    option: str, shown: str, tmp_path: Path
) -> None:
    link = tmp_path / "link"
    link.symlink_to("report")
    prog = shared_vmcore("head-reuse")
    done = answer(option, link, prog=prog)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert link.is_symlink()
    assert (tmp_path / "report").read_text() == shown
    assert vmemmap("-c", VMCORE, option, "/dev/stdout").stdout == shown
    refused(answer(option, "/dev/full", prog=prog), 2, "/dev/full: No space left")


def test_a_file_that_standard_output_goes_to_is_not_replaced(shown: str, tmp_path: Path) -> None:
    path = tmp_path / "both"
    command = f"(echo first; {COMMAND} -c {VMCORE} -o {path}; echo last) > {path}"
    run("bash", "-c", command, check=True)
    assert path.read_text() == f"first\n{shown}last\n"


@pytest.mark.long
def test_the_permissions_of_what_is_written_are_the_umasks(tmp_path: Path) -> None:
    names = ("report", "bundle", "vmcore")
    prog, before = shared_vmcore("head-reuse"), os.umask(0o027)
    try:
        for words, name in zip((("-o",), ("bundle",), ("extract",)), names):
            assert answer(*words, tmp_path / name, prog=prog).returncode == 0
    finally:
        os.umask(before)
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in names]
    assert modes == [0o640, 0o750, 0o640]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names)


@pytest.mark.long
def test_a_closed_standard_output_is_refused_unless_there_is_a_file(
    shown: str, tmp_path: Path
) -> None:
    command = f"{COMMAND} -c {VMCORE}"
    refused(run("bash", "-c", f"{command} >&-"), 2, "standard output is closed", "redirect it")
    assert run("bash", "-c", f"{command} >&- 2>&-").returncode == 2
    done = run("bash", "-c", f"{command} -o {tmp_path}/report <&- >&- 2>&-")
    assert done.returncode == 0
    assert (tmp_path / "report").read_text() == shown


@pytest.mark.long
def test_a_full_disk_is_refused() -> None:
    for arguments in ("", "--folios --format json"):
        done = run("bash", "-c", f"{COMMAND} -c {VMCORE} {arguments} > /dev/full")
        refused(done, 2, "No space left on device")


@pytest.mark.long
@pytest.mark.parametrize("is_full", (True, False), ids=("full disk", "closed pipe"))
def test_messages_that_cannot_be_written_leave_the_exit_code(is_full: bool, tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "w") as closed, open("/dev/full", "w") as full:
        streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL}
        options: dict[str, Any] = {**streams, "stderr": full if is_full else closed}
        for arguments, code in (
            (("-c", "/no/vmcore"), 2),
            (("--nonsense",), 2),
            (("explain", "--stdin"), 3),
            (("-c", VMCORE, "extract", tmp_path / "extract"), 0),
        ):
            done = vmemmap(*arguments, capture_output=False, **options)
            assert done.returncode == code
        script = (PACKAGE / "__main__.py", "explain", "--stdin")
        done = run(DRGN, "-q", "-c", VMCORE, *script, capture_output=False, **options)
        assert done.returncode == 3


def test_a_report_needs_no_current_directory(tmp_path: Path) -> None:
    script = f"mkdir gone; cd gone; rmdir ../gone; exec {COMMAND} -c {VMCORE}"
    done = run("bash", "-c", script, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"{VMCORE}\n")


def test_extract_keeps_what_is_there(tmp_path: Path) -> None:
    there = tmp_path / "there"
    there.write_text("mine")
    prog = shared_vmcore("head-reuse")
    refused(answer("extract", there, prog=prog), 2, "exists")
    assert there.read_text() == "mine"
    refused(answer("extract", tmp_path / "no" / "file", prog=prog), 2, "No such file")


@pytest.mark.long
def test_extract_says_how_much_it_took_and_that_the_log_is_not_in_the_dump(tmp_path: Path) -> None:
    prog, path = shared_vmcore("head-reuse"), tmp_path / "vmcore"
    done = answer("extract", path, prog=prog)
    assert done.returncode == 0
    sizes, kinds = zip(*(line.split(" bytes ") for line in done.stderr.splitlines()))
    assert {*kinds[:-1]} == {
        "of page tables",
        "of head pages",
        "of hstates, sections, zones, and struct pages of frames",
        "of symbols, types and variables",
        "of VMCOREINFO",
    }
    *taken, _ = map(int, sizes)
    assert sum(taken) < path.stat().st_size < 1.2 * sum(taken)
    path.unlink()
    done = answer("extract", "--log", path, prog=prog)
    assert (done.returncode, path.exists()) == (3, True)
    assert "the kernel's log: " in done.stderr.splitlines()[-1]


@pytest.mark.long
def test_extract_leaves_nothing_on_a_full_disk(tmp_path: Path) -> None:
    # A limit on the size of files stands for a full disk: both fail in the middle of a write.
    target = tmp_path / "vmcore"
    script = f"ulimit -f 100; trap '' XFSZ; exec {COMMAND} -c {VMCORE} extract {target}"
    refused(run("bash", "-c", script, env=without_coverage()), 2)
    assert not list(tmp_path.iterdir())
