# SPDX-License-Identifier: LGPL-2.1-or-later

"""All entry points answer alike, and say in one line what is wrong."""

from __future__ import annotations

import contextlib
import json
import socket
import stat
import struct
import sys
import tempfile
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Callable

import drgn
import pytest
from drgn.helpers.linux.kallsyms import load_vmlinux_kallsyms
from kdumpling import KdumpBuilder

import drgn_vmemmap
from drgn_vmemmap.cli import launcher
from drgn_vmemmap.extract.recording import extract
from drgn_vmemmap.kernel.discovery import discover
from drgn_vmemmap.paging.walker import Walker
from drgn_vmemmap.target.memory import ProgramMemory
from tests.support import (
    BIN,
    COMMAND,
    PACKAGE,
    ROOT,
    BareDrgn,
    open_vmcore,
    refused,
    run,
    vmcore,
    vmemmap,
)

VMCORE = vmcore("head-reuse")
SYMBOLS = (
    *("__start_BTF", "__stop_BTF", "hstates", "hugetlb_max_hstate", "max_pfn", "mem_section"),
    *("node_data", "vmemmap_base", "vmemmap_optimize_enabled", "hugetlb_optimize_vmemmap_key"),
)


@pytest.fixture(scope="session")
def elf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The recorded vmcore as an ELF file."""
    path = tmp_path_factory.mktemp("elf") / "vmcore"
    prog = open_vmcore(VMCORE)
    extract(prog, str(path), compress=False)
    return path


@pytest.mark.parametrize(
    "arguments",
    (
        (),
        ("report", "--folios"),
        ("--folios", "--format", "json"),
        ("--pfn", "0x3fff"),
        ("--help",),
        ("-V",),
        ("--folios", "--format", "csv", "report"),
        ("nonsense",),
        ("report", "--nonsense"),
        ("extract", "/"),
    ),
)
def test_all_entry_points_answer_alike(bundle: Path, arguments: tuple[str, ...]) -> None:
    installed = vmemmap("-c", VMCORE, *arguments)
    main = PACKAGE / "__main__.py"
    for done in (
        run(BIN / "drgn", "-q", "-c", VMCORE, bundle, *arguments),
        run(BIN / "drgn", "-q", "-c", VMCORE, main, *arguments),
        run(sys.executable, bundle, "-c", VMCORE, *arguments),
        run(sys.executable, "-m", "drgn_vmemmap", *arguments, "-c", VMCORE, cwd=ROOT),
    ):
        assert (done.returncode, done.stdout) == (installed.returncode, installed.stdout)
        assert done.stderr == installed.stderr


def test_the_bundle_runs_where_only_drgn_is(
    bundle: Path, bare_drgn: BareDrgn, tmp_path: Path
) -> None:
    done = bare_drgn.run("-c", VMCORE, bundle, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, vmemmap("-c", VMCORE, cwd=tmp_path).stdout)


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


@pytest.mark.parametrize("path", ("drgn_vmemmap", "./drgn_vmemmap", "../here/drgn_vmemmap"))
def test_the_bundle_makes_the_page_by_whatever_path_it_is_run(
    path: str, bundle: Path, tmp_path: Path
) -> None:
    here = tmp_path / "here"
    here.mkdir()
    (here / "drgn_vmemmap").symlink_to(bundle)
    arguments = ("--format", "html")
    page = vmemmap("-c", VMCORE, *arguments, cwd=here).stdout
    for command in (
        (sys.executable, path, "-c", VMCORE),
        (BIN / "drgn", "-q", "-c", VMCORE, path),
    ):
        done = run(*command, *arguments, cwd=here)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout == page


def test_the_bundle_carries_the_licences_of_what_is_in_it(bundle: Path) -> None:
    assert any(name.startswith("licences/tabulate/") for name in zipfile.ZipFile(bundle).namelist())


def test_the_prompt_has_the_command_with_pipes_and_redirections(tmp_path: Path) -> None:
    written = tmp_path / "written"
    code = f"""
from drgn.commands import run_command
run_command(prog, "vmemmap report --folios | head -n 1")
run_command(prog, "vmemmap report > {written}")
run_command(prog, "vmemmap nonsense")
"""
    done = run(BIN / "drgn", "-q", "-c", VMCORE, "-e", code)
    assert done.returncode == 0
    report = vmemmap("-c", VMCORE).stdout
    assert done.stdout == report.splitlines(keepends=True)[0]
    assert written.read_text() == report
    assert len(done.stderr.splitlines()) == 1


def test_python_gets_the_same_report() -> None:
    prog = open_vmcore(VMCORE)
    totals = drgn_vmemmap.examine(prog).totals
    shown = json.loads(vmemmap("-c", VMCORE, "--format", "json").stdout)["totals"]
    assert totals.counts.freed == shown["freed"] == 448
    assert totals.net_saved_bytes == shown["net_saved_bytes"]


def test_a_reader_that_leaves_early_is_no_error() -> None:
    command = f"{COMMAND} -c {VMCORE} --folios | head -n 1"
    done = run("bash", "-o", "pipefail", "-c", command)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_result_goes_to_a_file_completely(tmp_path: Path) -> None:
    path = tmp_path / "report"
    assert vmemmap("-c", VMCORE, "-o", path).stdout == ""
    assert path.read_text() == vmemmap("-c", VMCORE).stdout
    assert list(tmp_path.iterdir()) == [path]
    refused(vmemmap("-c", VMCORE, "-o", tmp_path / "no" / "report"), 2, "No such file")


@pytest.mark.parametrize("option", ("-o", "--output"))
def test_a_result_goes_through_links_and_to_devices(option: str, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to("report")
    done = vmemmap("-c", VMCORE, option, link)
    assert (done.returncode, done.stderr) == (0, "")
    assert link.is_symlink()
    assert (tmp_path / "report").read_text() == vmemmap("-c", VMCORE).stdout
    assert vmemmap("-c", VMCORE, option, "/dev/stdout").stdout == vmemmap("-c", VMCORE).stdout
    refused(vmemmap("-c", VMCORE, option, "/dev/full"), 2, "/dev/full: No space left")


def test_a_file_that_standard_output_goes_to_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "both"
    command = f"(echo first; {COMMAND} -c {VMCORE} -o {path}; echo last) > {path}"
    run("bash", "-c", command, check=True)
    assert path.read_text() == f"first\n{vmemmap('-c', VMCORE).stdout}last\n"


def test_the_permissions_of_what_is_written_are_the_umasks(tmp_path: Path) -> None:
    names = ("report", "bundle", "vmcore")
    run(
        *("bash", "-e", "-c"),
        f"umask 027; {COMMAND} -c {VMCORE} -o report; {COMMAND} bundle bundle; "
        f"{COMMAND} -c {VMCORE} extract vmcore",
        cwd=tmp_path,
        check=True,
    )
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in names]
    assert modes == [0o640, 0o750, 0o640]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names)


def test_a_closed_standard_output_is_refused_unless_there_is_a_file(tmp_path: Path) -> None:
    command = f"{COMMAND} -c {VMCORE}"
    refused(run("bash", "-c", f"{command} >&-"), 2, "standard output is closed", "-o FILE")
    assert run("bash", "-c", f"{command} >&- 2>&-").returncode == 2
    done = run("bash", "-c", f"{command} -o {tmp_path}/report <&- >&- 2>&-")
    assert done.returncode == 0
    assert (tmp_path / "report").read_text() == vmemmap("-c", VMCORE).stdout


def test_a_full_disk_is_refused() -> None:
    for arguments in ("", "--folios --format json"):
        done = run("bash", "-c", f"{COMMAND} -c {VMCORE} {arguments} > /dev/full")
        refused(done, 2, "No space left on device")


def test_options_of_a_command_stand_before_or_after_it() -> None:
    after = vmemmap("-c", VMCORE, "verify", "--format", "json").stdout
    assert vmemmap("--format", "json", "-c", VMCORE, "verify").stdout == after
    assert vmemmap("--format=json", "verify", "-c", VMCORE).stdout == after
    assert vmemmap("--form", "json", "verify", f"--core={VMCORE}").stdout == after
    refused(vmemmap("--all", "report", "-c", VMCORE), 2, "--all", "report --help")


def test_an_unknown_command_is_answered_with_the_nearest_one(tmp_path: Path) -> None:
    refused(vmemmap("-c", VMCORE, "verfy"), 2, "no command 'verfy'", "'verify'")
    refused(vmemmap("--folios", "zzz"), 2, "no command 'zzz'", "report, verify, explain")


def test_a_vmcore_without_its_option_is_answered_with_it() -> None:
    for arguments in ((VMCORE,), (VMCORE, "verify"), ("verify", VMCORE), ("report", VMCORE)):
        refused(vmemmap(*arguments), 2, str(VMCORE), "-c")


def test_only_one_target_can_be_given() -> None:
    refused(vmemmap("-k", "-c", VMCORE), 2, "one target", "-k", f"-c {VMCORE}")
    refused(vmemmap("--qemu", "socket", "--kernel"), 2, "one target", "--qemu socket", "--kernel")
    refused(vmemmap("-c", VMCORE, "-c", "other"), 2, "one target", "-c other")
    done = run(BIN / "drgn", "-q", "-c", VMCORE, PACKAGE / "__main__.py", "-k", "verify")
    refused(done, 2, "already", "-k")


@pytest.mark.parametrize(
    "option", ("-s", "--symbols", "--extra-symbols", "--vmcoreinfo", "--kernel-directory")
)
def test_a_file_of_symbols_that_is_not_there_is_refused(option: str) -> None:
    refused(vmemmap("-c", VMCORE, option, "/no/vmlinux"), 2, f"{option} /no/vmlinux", "no such")


def test_symbols_of_something_else_are_not_used_in_silence() -> None:
    done = vmemmap("-c", VMCORE, "-s", sys.executable)
    assert (done.returncode, done.stdout) == (0, vmemmap("-c", VMCORE).stdout)
    (line,) = done.stderr.splitlines()
    assert f"-s {sys.executable}" in line and "not used" in line


@pytest.mark.parametrize(
    ("content", "words"),
    (
        (b"\x1f\x8b\x08\x00", "gunzip"),
        (b"\xfd7zXZ\0", "unxz"),
        (b"\x28\xb5\x2f\xfd", "unzstd"),
        (b"LibvirtQemudSave", "--memory-only"),
        (b"", "empty"),
    ),
)
def test_a_file_that_is_no_dump_yet_gets_an_advice(
    content: bytes, words: str, tmp_path: Path
) -> None:
    path = tmp_path / "vmcore"
    path.write_bytes(content)
    refused(vmemmap("-c", path), 2, str(path), words)
    refused(vmemmap("diff", path, VMCORE), 2, str(path), words)


def test_a_fifo_is_refused() -> None:
    refused(run("bash", "-c", f"{COMMAND} -c <(cat {VMCORE})"), 2, "/dev/fd/", "FIFO")


def test_an_error_that_nobody_foresaw_is_one_line_with_its_place(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail() -> None:
        raise RuntimeError("\x1b[2J")

    assert drgn_vmemmap.exit_code_of(fail) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "RuntimeError: \\x1b[2J" in line and f"{Path(__file__).name}:" in line


def test_wrong_usage_is_refused() -> None:
    refused(vmemmap("nonsense"), 2, "nonsense", "--help")
    refused(vmemmap("--nonsense"), 2, "--nonsense", "--help")
    refused(vmemmap("-c"), 2, "-c", "argument")
    refused(vmemmap("--pfn", "many"), 2, "many")
    refused(vmemmap("bundle"), 2, "FILE")


def test_no_such_file() -> None:
    refused(vmemmap("-c", "/nonexistent"), 2, "No such file", "/nonexistent")


def test_not_a_vmcore() -> None:
    refused(vmemmap("-c", ROOT / "Makefile"), 2, "not an ELF core file")


def test_a_core_of_a_process(tmp_path: Path) -> None:
    builder = KdumpBuilder(arch="x86_64")
    builder.add_custom_note("CORE", 6, bytes(16))  # NT_AUXV, empty
    builder.add_memory_segment(0x1000, bytes(4096))
    builder.write(str(tmp_path / "core"))
    refused(vmemmap("-c", tmp_path / "core"), 2, "not a Linux kernel")


def test_another_architecture(tmp_path: Path) -> None:
    builder = KdumpBuilder(arch="aarch64")
    root = "SYMBOL(swapper_pg_dir)=ffff800081000000"
    builder.set_vmcoreinfo(f"OSRELEASE=6.12.0\nPAGESIZE=4096\nNUMBER(VA_BITS)=48\n{root}\n")
    builder.add_memory_segment(0x1000, bytes(4096))
    builder.write(str(tmp_path / "vmcore"))
    refused(vmemmap("-c", tmp_path / "vmcore"), 2, "AARCH64", "x86-64")


@pytest.fixture
def system_map(tmp_path: Path) -> Any:
    """Writes the recorded kernel's System.map, less some symbols."""
    prog = open_vmcore(VMCORE)
    symbols = load_vmlinux_kallsyms(prog)
    offset = int(prog["VMCOREINFO"].string_().split(b"KERNELOFFSET=")[1].split()[0], 16)

    def write(*without: str) -> Path:
        path = tmp_path / "System.map"
        with path.open("w") as file:
            for name in SYMBOLS:
                if name not in without:
                    (symbol,) = symbols(prog, name, None, True)
                    file.write(f"{symbol.address - offset:016x} D {name}\n")
        return path

    return write


def test_a_system_map_gives_what_kallsyms_give(system_map: Any) -> None:
    # A kernel can be built without the variable vmemmap_base.
    for without in ((), ("vmemmap_base",)):
        done = vmemmap("-c", VMCORE, "--system-map", system_map(*without))
        assert (done.returncode, done.stdout) == (0, vmemmap("-c", VMCORE).stdout)


@pytest.mark.parametrize(
    ("without", "words"),
    (
        (("hstates",), ("HugeTLB",)),
        (("__start_BTF",), ("BTF", "-s")),
        (SYMBOLS, ("System.map",)),
    ),
)
def test_a_kernel_without(
    system_map: Any, without: tuple[str, ...], words: tuple[str, ...]
) -> None:
    refused(vmemmap("-c", VMCORE, "--system-map", system_map(*without)), 2, *words)


def test_a_kernel_without_symbols_or_kallsyms(tmp_path: Path) -> None:
    builder = KdumpBuilder(arch="x86_64")
    builder.set_vmcoreinfo(
        "OSRELEASE=5.15.0\nPAGESIZE=4096\nSYMBOL(swapper_pg_dir)=ffffffff81000000\n"
    )
    builder.add_memory_segment(0x1000, bytes(4096))
    builder.write(str(tmp_path / "vmcore"))
    refused(vmemmap("-c", tmp_path / "vmcore"), 2, "5.15.0", "-s", "--system-map")


@pytest.mark.parametrize("eighth", range(1, 8))
def test_a_truncated_dump(elf: Path, tmp_path: Path, eighth: int) -> None:
    data = elf.read_bytes()
    cut = tmp_path / "vmcore"
    cut.write_bytes(data[: len(data) * eighth // 8])
    done = vmemmap("-c", cut)
    assert done.returncode in (2, 3)
    assert "Traceback" not in done.stderr
    if not done.stdout:
        refused(done, done.returncode)


@pytest.mark.parametrize("size", (100, 5000, 20_000, 100_000, 134_424, 200_000, 3_000_000))
def test_a_truncated_kdump(tmp_path: Path, size: int) -> None:
    cut = tmp_path / "vmcore"
    cut.write_bytes(VMCORE.read_bytes()[:size])
    refused(vmemmap("-c", cut), 2, f"{cut} ", "cut off", "copy it again")


@pytest.mark.parametrize("order", (0, 8, 23, 64, 1 << 31, (1 << 32) - 1))
def test_a_hstate_of_an_order_that_cannot_be(elf: Path, tmp_path: Path, order: int) -> None:
    prog = open_vmcore(elf)
    kernel = discover(prog)
    walker = Walker(ProgramMemory(prog), kernel.paging)
    address = kernel.hstates + kernel.hstate.size + kernel.hstate.offset("order")
    frame = walker.entry(address).frame
    assert frame is not None
    physical = (frame << 12) + address % 4096
    data = bytearray(elf.read_bytes())
    (count,) = struct.unpack_from("<H", data, 56)
    for header in range(64, 64 + 56 * count, 56):
        kind, offset, start, size = struct.unpack_from("<I4xQ8xQQ", data, header)
        if kind == 1 and start <= physical < start + size:
            struct.pack_into("<I", data, offset + physical - start, order)
    damaged = tmp_path / "vmcore"
    damaged.write_bytes(data)
    done = vmemmap("-c", damaged, "--format", "json")
    assert (done.returncode, done.stderr) == (0, "")
    findings = json.loads(done.stdout)["findings"]
    assert [finding["rule"] for finding in findings] == ["list-corrupt"]
    assert f"order {order} cannot be" in findings[0]["message"]


def test_btf_that_is_damaged(elf: Path, tmp_path: Path) -> None:
    data = bytearray(elf.read_bytes())
    magic = data.index(b"\x9f\xeb\x01\x00\x18")
    data[magic : magic + 2] = b"\xeb\x9f"
    damaged = tmp_path / "vmcore"
    damaged.write_bytes(data)
    refused(vmemmap("-c", damaged), 2, "BTF", "byte order", "-s")


def test_a_dump_filtered_so_hard_that_heads_are_missing(elf: Path, tmp_path: Path) -> None:
    data = bytearray(elf.read_bytes())
    (count,) = struct.unpack_from("<H", data, 56)
    for header in range(64, 64 + 56 * count, 56):
        kind, size = struct.unpack_from("<I28xQ", data, header)
        if kind == 1 and size == 128:  # PT_LOAD of two struct pages
            struct.pack_into("<I", data, header, 0)
    filtered = tmp_path / "vmcore"
    filtered.write_bytes(data)
    done = vmemmap("-c", filtered, "--format", "json")
    assert (done.returncode, done.stderr) == (3, "")
    findings = json.loads(done.stdout)["findings"]
    assert any(finding["rule"] == "unreadable" for finding in findings)
    assert not any(finding["severity"] == "error" for finding in findings)


def test_the_name_of_a_kernel_cannot_drive_the_terminal(tmp_path: Path) -> None:
    builder = KdumpBuilder(arch="x86_64")
    root = "SYMBOL(swapper_pg_dir)=ffffffff81000000"
    builder.set_vmcoreinfo(f"OSRELEASE=\x1b[2J\x07\nPAGESIZE=4096\n{root}\n")
    builder.add_memory_segment(0x1000, bytes(4096))
    builder.write(str(tmp_path / "vmcore"))
    done = vmemmap("-c", tmp_path / "vmcore")
    assert "\x1b" not in done.stderr + done.stdout
    refused(done, 2)


def test_extract_keeps_what_is_there(tmp_path: Path) -> None:
    there = tmp_path / "there"
    there.write_text("mine")
    refused(vmemmap("-c", VMCORE, "extract", there), 2, "exists")
    assert there.read_text() == "mine"
    refused(vmemmap("-c", VMCORE, "extract", tmp_path / "no" / "file"), 2, "No such file")


def test_extract_leaves_nothing_on_a_full_disk(tmp_path: Path) -> None:
    # A limit on the size of files stands for a full disk: both fail in the middle of a write.
    target = tmp_path / "vmcore"
    script = f"ulimit -f 100; trap '' XFSZ; exec {BIN}/drgn-vmemmap -c {VMCORE} extract {target}"
    refused(run("bash", "-c", script), 2)
    assert not list(tmp_path.iterdir())


# Live targets that are none.


@pytest.fixture
def speaker() -> Iterator[Callable[[bytes | None], str]]:
    """Makes a socket that says something to who connects and hangs up, or says nothing at all."""
    with contextlib.ExitStack() as stack:

        def speaker(words: bytes | None) -> str:
            # A UNIX socket's path must be short.
            directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="qmp-"))
            server = stack.enter_context(socket.socket(socket.AF_UNIX))
            server.bind(f"{directory}/socket")
            server.listen()

            def speak() -> None:
                with contextlib.suppress(OSError):
                    while words is not None:
                        connection, _ = server.accept()
                        with connection:
                            connection.sendall(words)

            threading.Thread(target=speak, daemon=True).start()
            stack.callback(server.shutdown, socket.SHUT_RDWR)
            return f"{directory}/socket"

        yield speaker


@pytest.mark.parametrize(
    ("words", "reason"),
    (
        (b"SSH-2.0-OpenSSH_9.2\r\n", "could not parse QMP message"),
        (b'{"hello": 1}\r\n', "did not receive QMP greeting"),
        (b'{"QMP": {}}\r\n', "cannot open this target"),
        (b"", "closed unexpectedly"),
        (b"\x1b]0;\x07\n", "could not parse QMP message"),
        (None, "says nothing"),
    ),
)
def test_a_socket_that_is_not_qemus_gets_one_line(
    speaker: Callable[[bytes | None], str], words: bytes | None, reason: str
) -> None:
    refused(vmemmap("--qemu", speaker(words), "watch"), 2, reason)


def test_a_socket_that_nobody_listens_on_gets_one_line() -> None:
    with tempfile.TemporaryDirectory(prefix="qmp-") as directory:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(f"{directory}/socket")
        refused(vmemmap("--qemu", f"{directory}/socket"), 2, "Connection refused")


@pytest.mark.parametrize(
    ("error", "reason"),
    (
        ("[Errno 13] Permission denied", "requires root"),
        ("[Errno 1] Operation not permitted", "locked down"),
    ),
)
def test_a_live_kernel_that_may_not_be_read_gets_one_line(
    error: str,
    reason: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def refuse(prog: drgn.Program) -> None:
        raise SystemExit(
            f"{error}: '/proc/kcore'\ndrgn debugs the live kernel by default, which requires root"
        )

    monkeypatch.setattr("drgn.cli._set_kernel_with_sudo_fallback", refuse)
    monkeypatch.setattr(sys, "argv", ["drgn-vmemmap", "-k"])
    with pytest.raises(SystemExit) as ended:
        launcher.main()
    out, err = capsys.readouterr()
    assert (ended.value.code, out) == (2, "")
    assert reason in err and len(err.splitlines()) == 1
