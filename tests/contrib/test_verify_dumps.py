# SPDX-License-Identifier: LGPL-2.1-or-later

"""A folder of vmcores becomes one table, whatever is in it, and however often it is begun."""

from __future__ import annotations

import csv
import fcntl
import os
import runpy
import shutil
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from unittest import mock

import pytest

from tests.damage.catalogue import tail_writable
from tests.damage.dumps import write_damaged
from tests.support import ROOT, recorded, run, vmcore

SCRIPT = ROOT / "contrib" / "fleet" / "verify_dumps.py"


def verify(table: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run the script in this process; each dump has one of its own all the same."""
    words = ["-o", str(table), *map(str, arguments)]
    out, err = StringIO(), StringIO()
    given = mock.patch.object(sys, "argv", [str(SCRIPT), *words])
    with given, redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as exit_:
        runpy.run_path(str(SCRIPT), run_name="__main__")
    assert isinstance(exit_.value.code, int)
    return subprocess.CompletedProcess(words, exit_.value.code, out.getvalue(), err.getvalue())


def rows(table: Path) -> dict[str, dict[str, str]]:
    """The table's rows by the name of the dump's file."""
    with open(table, newline="", errors="surrogateescape") as file:
        return {os.path.basename(row["dump"]): row for row in csv.DictReader(file)}


NAMES = ("head-reuse", "hvo-off", "two-nodes-1GiB")
"""Recorded vmcores."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Some recorded vmcores and four broken ones, in folders, beside files that are no dumps."""
    folder = tmp_path_factory.mktemp("dumps")
    for path in map(vmcore, NAMES):
        (folder / path.stem).mkdir()
        (folder / path.stem / path.name).symlink_to(path)
        (folder / path.stem / "vmcore-dmesg.txt").write_text("nothing\n")
    (folder / "cut-off.kdump").write_bytes(vmcore("head-reuse").read_bytes()[:100_000])
    (folder / "vmcore-incomplete").write_bytes(b"")
    (folder / "vmcore").write_bytes(os.urandom(4096))
    write_damaged(folder / "damaged.elf", "head-reuse", tail_writable)
    return folder


@pytest.mark.long
def test_each_dump_has_its_row_and_a_broken_one_stops_nothing(folder: Path, tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    done = run(sys.executable, SCRIPT, "-o", table, folder)
    assert done.returncode == 1
    found = rows(table)
    assert len(found) == len(NAMES) + 4
    for path in map(vmcore, NAMES):
        row, report = found[path.name], recorded(path.stem)
        assert row["verdict"] == "sound" and row["findings"] == ""
        assert row["release"] == report["kernel"]["release"]
        assert row["host"] == (report["target"]["host"] or "")
        assert row["time"] == (report["target"]["crash_time"] or "")
        for column, field in (("folios",) * 2, ("optimized",) * 2, ("saved", "net_saved_bytes")):
            assert row[column] == str(report["totals"][field])
    assert found["damaged.elf"]["verdict"] == "broken"
    assert found["damaged.elf"]["findings"] == "tail-writable 1"
    for name in ("cut-off.kdump", "vmcore-incomplete", "vmcore"):
        assert found[name]["verdict"] == "failed"
        assert len(found[name]["findings"].splitlines()) == 1
    assert all(name in done.stdout for name in found)


@pytest.mark.long
def test_what_is_in_the_table_is_not_verified_again_until_it_changes(tmp_path: Path) -> None:
    table, dump = tmp_path / "table.csv", tmp_path / "dump.vmcore"
    shutil.copy(vmcore("hvo-off"), dump)
    first = verify(table, tmp_path)
    assert (first.returncode, len(first.stderr.splitlines())) == (0, 1)
    again = verify(table, tmp_path)
    assert (again.returncode, again.stderr, again.stdout) == (0, "", first.stdout)
    shutil.copy(vmcore("shared-tail"), dump)
    changed = verify(table, tmp_path)
    assert len(changed.stderr.splitlines()) == 1
    assert rows(table)["dump.vmcore"]["optimized"] == "64"


@pytest.mark.long
def test_a_table_that_was_cut_off_is_gone_on_with(tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    names = ("head-reuse", "hvo-off")
    verify(table, *map(vmcore, names))
    complete = table.read_text()
    table.write_text(complete[:-10])
    done = verify(table, *map(vmcore, names))
    assert len(done.stderr.splitlines()) == 1
    assert table.read_text() == complete


def test_a_dump_that_takes_too_long_is_given_up_and_tried_again_when_asked(tmp_path: Path) -> None:
    table, dump = tmp_path / "table.csv", vmcore("head-reuse")
    done = verify(table, dump, "--timeout", "0.01")
    assert done.returncode == 3
    assert rows(table)[dump.name]["findings"] == "it took more than 0.01 seconds"
    assert verify(table, dump).stderr == ""
    assert verify(table, dump, "--retry").returncode == 0
    assert rows(table)[dump.name]["verdict"] == "sound"


def test_names_of_files_are_bytes_of_any_kind(tmp_path: Path) -> None:
    table, name = tmp_path / "table.csv", b"\x1b[2J\n,\xff.vmcore"
    with open(os.fsencode(tmp_path) + b"/" + name, "wb") as file:
        file.write(vmcore("hvo-off").read_bytes())
    done = verify(table, tmp_path)
    assert done.returncode == 0
    assert "\x1b" not in done.stdout + done.stderr
    assert os.fsdecode(name) in rows(table)
    assert verify(table, tmp_path).stderr == ""


def test_a_reader_that_leaves_early_does_not_change_the_exit_code(tmp_path: Path) -> None:
    table, folder = tmp_path / "table.csv", tmp_path / "folder"
    folder.mkdir()
    assert verify(table, folder).returncode == 0
    with open(table, "a") as file:
        file.write("/vmcore,1,1,,,,broken,,,,tail-writable 1\r\n")
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer) as output:
        streams = {"capture_output": False, "stdout": output, "stderr": subprocess.PIPE}
        done = run(sys.executable, SCRIPT, "-o", table, folder, **streams)
    assert (done.returncode, done.stderr) == (1, "")


def test_two_do_not_write_the_same_table(tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    with open(table, "a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        done = verify(table, vmcore("hvo-off"))
    assert done.returncode == 2
    assert done.stderr == f"verify_dumps: another process writes {table}\n"


def test_a_table_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    done = verify(tmp_path / "none" / "table.csv", vmcore("hvo-off"))
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 1)


@pytest.mark.parametrize("content", (b"hello", b"a,b\n1,2\n3", vmcore("hvo-off").read_bytes()))
def test_a_file_that_is_no_table_is_not_changed(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    done = verify(path, vmcore("hvo-off"))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"verify_dumps: {path} is no table of dumps: give another name\n"
    assert path.read_bytes() == content


def test_a_device_is_not_replaced_by_a_table(tmp_path: Path) -> None:
    fifo, link = tmp_path / "fifo", tmp_path / "link"
    os.mkfifo(fifo)
    done = verify(fifo, vmcore("hvo-off"))
    assert (done.returncode, done.stderr) == (2, f"verify_dumps: {fifo} is no regular file\n")
    assert fifo.is_fifo()
    link.symlink_to(tmp_path / "table.csv")
    assert verify(link, vmcore("hvo-off"), "--jobs", "0").returncode == 0
    assert link.is_symlink() and rows(link)["hvo-off.vmcore"]["verdict"] == "sound"


def test_a_table_that_is_damaged_is_one_line(tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    assert verify(table, vmcore("hvo-off")).returncode == 0
    with open(table, "a") as file:
        file.write("x" * 200_000 + "\n")
    done = verify(table, vmcore("hvo-off"))
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 1)
    assert "damaged" in done.stderr


@pytest.mark.parametrize("option", ("--jobs=-1", "--timeout=nan", "--timeout=-1"))
def test_numbers_that_make_no_sense_are_refused(option: str, tmp_path: Path) -> None:
    done = verify(tmp_path / "table.csv", vmcore("hvo-off"), option)
    assert done.returncode == 2
    assert "is not a number" in done.stderr.splitlines()[-1]
