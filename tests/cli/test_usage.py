# SPDX-License-Identifier: LGPL-2.1-or-later

"""Wrong usage is refused in one line that says what to do."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

import drgn_vmemmap
from drgn_vmemmap.cli.exit_codes import fail
from tests.support import (
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


@pytest.mark.long
def test_options_of_a_command_stand_before_or_after_it() -> None:
    prog = shared_vmcore("head-reuse")
    after = answer("verify", "--format", "json", prog=prog).stdout
    assert answer("--format", "json", "verify", prog=prog).stdout == after
    assert answer("--format=json", "verify", prog=prog).stdout == after
    assert vmemmap("--form", "json", "-c", VMCORE, "verify").stdout == after
    assert vmemmap("--format=json", "verify", f"--core={VMCORE}").stdout == after
    refused(answer("--all", "report", "-c", VMCORE), 2, "--all", "report --help")


def test_an_unknown_command_is_answered_with_the_nearest_one(tmp_path: Path) -> None:
    refused(answer("-c", VMCORE, "verfy"), 2, "no command 'verfy'", "'verify'")
    refused(answer("--folios", "zzz"), 2, "no command 'zzz'", "report, verify, explain")


def test_a_vmcore_without_its_option_is_answered_with_it() -> None:
    for arguments in ((VMCORE,), (VMCORE, "verify"), ("verify", VMCORE), ("report", VMCORE)):
        refused(answer(*arguments), 2, str(VMCORE), "-c")


def test_names_of_files_may_begin_with_a_hyphen_after_two(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("-a", "--format"):
        Path(name).write_bytes(report_file("head-reuse").read_bytes())
    done = answer("diff", "--format", "table", "--", "-a", "--format")
    assert (done.returncode, done.stdout) == (0, "no difference\n")
    assert answer("rules", "--", "tail-writable").stdout == answer("rules", "tail-writable").stdout
    refused(answer("diff", "--"), 2, "required: A, B")


@pytest.mark.parametrize(
    "words",
    (
        ("-c", ""),
        ("--core=",),
        ("-s", ""),
        ("--qemu", ""),
        ("--vmcoreinfo", ""),
        ("--system-map", ""),
        ("-o", ""),
        ("diff", "", "b"),
        ("extract", ""),
        ("bundle", ""),
        ("watch", "--extract", ""),
    ),
)
def test_an_empty_name_is_refused_as_that_of_a_variable_that_is_not_set(
    words: tuple[str, ...],
) -> None:
    refused(answer(*words), 2, "the name is empty")


def test_only_one_target_can_be_given() -> None:
    refused(answer("-k", "-c", VMCORE), 2, "one target", "-k", f"-c {VMCORE}")
    refused(answer("--qemu", "socket", "--kernel"), 2, "one target", "--qemu socket", "--kernel")
    refused(answer("-c", VMCORE, "-c", "other"), 2, "one target", "-c other")
    done = run(DRGN, "-q", "-c", VMCORE, PACKAGE / "__main__.py", "-k", "verify")
    refused(done, 2, "already", "-k")


@pytest.mark.parametrize(
    "option", ("-s", "--symbols", "--extra-symbols", "--vmcoreinfo", "--kernel-directory")
)
def test_a_file_of_symbols_that_is_not_there_is_refused(option: str) -> None:
    refused(answer("-c", VMCORE, option, "/no/vmlinux"), 2, f"{option} /no/vmlinux", "no such")


@pytest.mark.parametrize("option", ("-s", "--vmcoreinfo", "--debug-directory"))
def test_symbols_that_the_user_may_not_read_are_refused(
    option: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(path: str, flags: int) -> int:
        raise PermissionError(13, "Permission denied", path)

    # Nothing is kept from root.
    monkeypatch.setattr("os.open", denied)
    refused(answer("-c", VMCORE, option, tmp_path), 2, f"{option} {tmp_path}", "may not read")


def test_symbols_of_something_else_are_not_used_in_silence(shown: str) -> None:
    done = vmemmap("-c", VMCORE, "-s", sys.executable)
    assert (done.returncode, done.stdout) == (0, shown)
    (line,) = done.stderr.splitlines()
    assert f"-s {sys.executable}" in line and "not used" in line


def test_an_error_that_nobody_foresaw_is_one_line_with_its_place(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail() -> None:
        raise RuntimeError("\x1b[2J")

    assert drgn_vmemmap.exit_code_of(fail) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "RuntimeError: \\x1b[2J" in line and f"{Path(__file__).name}:" in line


def test_a_script_whose_output_is_closed_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # As Python has it where a shell was told >&-.
    monkeypatch.setattr("sys.stdout", None)
    assert drgn_vmemmap.exit_code_of(lambda: print("a result")) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "standard output is closed" in line


def test_a_message_is_not_taken_for_a_result_where_standard_error_is_closed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stderr", None)
    assert drgn_vmemmap.exit_code_of(lambda: fail(3, "something")) == 3
    assert capsys.readouterr().out == ""


def test_lack_of_memory_is_no_error_of_this_tool(capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        raise MemoryError

    assert drgn_vmemmap.exit_code_of(fail) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "more memory than this process may have" in line and "report it" not in line


def test_wrong_usage_is_refused() -> None:
    refused(answer("nonsense"), 2, "nonsense", "--help")
    refused(vmemmap("--nonsense"), 2, "--nonsense", "--help")
    refused(answer("-c"), 2, "-c", "argument")
    refused(answer("--pfn", "many"), 2, "many")
    refused(answer("--pfn", "a400"), 2, "a400", "0x")
    asked = answer("explain", "deadbeef", prog=shared_vmcore("head-reuse"))
    refused(asked, 2, "deadbeef", "0x", "16 digits")
    refused(answer("bundle"), 2, "FILE")


def test_a_target_that_a_command_does_not_read_is_said_to_be_unused() -> None:
    dump = vmcore("hvo-off")
    done = answer("-c", dump, "diff", dump, dump)
    assert (done.returncode, done.stdout) == (0, "no difference\n")
    assert done.stderr == "drgn-vmemmap: diff needs no target: the one that is named is ignored\n"


@pytest.mark.parametrize("seconds", ("soon", "-1", "1e9", "nan", "inf"))
def test_an_interval_that_is_none_is_refused_by_its_value(seconds: str) -> None:
    done = answer("watch", f"--interval={seconds}")
    assert done.returncode == 2
    assert f"'{seconds}' is not a number of seconds up to a day" in done.stderr


@pytest.mark.long
def test_a_name_in_a_message_does_not_reach_the_terminal_as_it_is(tmp_path: Path) -> None:
    name = tmp_path / "a\x1b[2J\nb\u202ec\udcff"
    shown = "a\\x1b[2J\\nb\\u202ec\\udcff"
    refused(vmemmap("-c", name), 2, shown)
    prog = shared_vmcore("head-reuse")
    refused(answer("-c", VMCORE, "-s", name), 2, shown)
    refused(answer("-o", name / "report", prog=prog), 2, shown)
    refused(answer("report", name), 2, f"unrecognized arguments: {tmp_path}/{shown}")
    refused(answer("diff", VMCORE, name), 2, shown)
    done = answer("extract", name, prog=prog)
    assert done.returncode == 0
    assert done.stderr.splitlines()[-1].endswith(f"bytes written to {tmp_path}/{shown}")
