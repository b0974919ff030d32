# SPDX-License-Identifier: LGPL-2.1-or-later

"""Files that are no dump, and dumps that cannot be analysed, get one line."""

from __future__ import annotations

import json
import select
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest

from drgn_vmemmap.cli import command_line
from drgn_vmemmap.extract.recording import extract
from drgn_vmemmap.kernel.discovery import discover
from drgn_vmemmap.paging.walker import Walker
from drgn_vmemmap.target.memory import ProgramMemory
from tests.support import COMMAND, ROOT, answer, open_vmcore, refused, run, vmcore, vmemmap

KdumpBuilder = pytest.importorskip("kdumpling", reason="kdumpling writes its dumps").KdumpBuilder
VMCORE = vmcore("head-reuse")


@pytest.fixture(scope="session")
def elf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The recorded vmcore as an ELF file."""
    path = tmp_path_factory.mktemp("elf") / "vmcore"
    prog = open_vmcore(VMCORE)
    extract(prog, str(path), compress=False)
    return path


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
    refused(answer("-c", path), 2, str(path), words)
    refused(answer("diff", path, VMCORE), 2, str(path), words)


def test_a_fifo_is_refused() -> None:
    refused(run("bash", "-c", f"{COMMAND} -c <(cat {VMCORE})"), 2, "/dev/fd/", "FIFO")


def test_no_such_file() -> None:
    refused(vmemmap("-c", "/nonexistent"), 2, "No such file", "/nonexistent")


def test_not_a_vmcore() -> None:
    refused(vmemmap("-c", ROOT / "Makefile"), 2, "take a dump with kdump, or with QEMU's")


def test_a_core_of_a_process(tmp_path: Path) -> None:
    builder = KdumpBuilder(arch="x86_64")
    builder.add_custom_note("CORE", 6, bytes(16))  # NT_AUXV, empty
    builder.add_memory_segment(0x1000, bytes(4096))
    builder.write(str(tmp_path / "core"))
    refused(vmemmap("-c", tmp_path / "core"), 2, "not a Linux kernel")


def test_an_elf_dump_without_vmcoreinfo_says_how_to_give_it(elf: Path, tmp_path: Path) -> None:
    path = tmp_path / "vmcore"
    path.write_bytes(elf.read_bytes().replace(b"VMCOREINFO\0", b"XMCOREINFO\0", 1))
    refused(vmemmap("-c", path), 2, str(path), "has no VMCOREINFO", "--vmcoreinfo")


def test_a_dump_of_a_guest_that_woke_up_says_how_to_give_vmcoreinfo(tmp_path: Path) -> None:
    builder = KdumpBuilder(arch="x86_64")
    builder.add_custom_note("QEMU", 0, bytes(440))
    builder.add_memory_segment(0x1000, bytes(4096))
    builder.write(str(tmp_path / "vmcore"))
    done = vmemmap("-c", tmp_path / "vmcore")
    refused(done, 2, "has no VMCOREINFO", "--vmcoreinfo", "qemu_fw_cfg since it last booted")


def test_another_architecture(tmp_path: Path) -> None:
    builder = KdumpBuilder(arch="aarch64")
    root = "SYMBOL(swapper_pg_dir)=ffff800081000000"
    builder.set_vmcoreinfo(f"OSRELEASE=6.12.0\nPAGESIZE=4096\nNUMBER(VA_BITS)=48\n{root}\n")
    builder.add_memory_segment(0x1000, bytes(4096))
    builder.write(str(tmp_path / "vmcore"))
    refused(vmemmap("-c", tmp_path / "vmcore"), 2, "AARCH64", "x86-64")


@pytest.mark.long
@pytest.mark.parametrize("eighth", (1, 4, 7))
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


@pytest.fixture(scope="session")
def crashing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A kdump whose pages end beyond it, as their descriptors say: libkdumpfile crashes."""
    data = bytearray(VMCORE.read_bytes())
    block_size, sub_header, bitmaps = struct.unpack_from("<3I", data, 428)
    descriptors = (1 + sub_header + bitmaps) * block_size
    (first_page,) = struct.unpack_from("<Q", data, descriptors)
    for descriptor in range(descriptors, first_page - 23, 24):
        struct.pack_into("<I", data, descriptor + 8, 1 << 26)
    path = tmp_path_factory.mktemp("crashing") / "vmcore"
    path.write_bytes(data)
    return path


def test_a_dump_that_crashes_its_reader(crashing: Path) -> None:
    refused(vmemmap("-c", crashing), 2, f"{crashing} cannot be read: ", "SIGBUS")
    refused(vmemmap("diff", VMCORE, crashing), 2, f"{crashing} cannot be read: ", "SIGBUS")


def test_the_first_process_of_a_container_ends_though_it_outlives_its_own_signals() -> None:
    code = (
        "import os; from drgn_vmemmap.cli import crashes; "
        f"os.kill = lambda *_: None; crashes._end_like({int(signal.SIGTERM)}, [])"
    )
    assert run(sys.executable, "-c", code).returncode == 128 + signal.SIGTERM


def test_a_dump_is_read_where_children_are_ignored() -> None:
    def ignore_children() -> None:
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)

    done = vmemmap("diff", VMCORE, VMCORE, preexec_fn=ignore_children)
    assert (done.returncode, done.stdout, done.stderr) == (0, "no difference\n", "")


def test_the_process_that_reads_a_dump_ends_with_the_one_that_a_time_limit_kills() -> None:
    outlive = f"from drgn_vmemmap.cli import crashes; crashes.continue_in_child([{str(VMCORE)!r}])"
    code = f"{outlive}; import time; print(flush=True); time.sleep(60)"
    with subprocess.Popen((sys.executable, "-c", code), stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"\n"
        process.kill()
        # Its output ends when nobody has it open any more.
        assert select.select([process.stdout], [], [], 20) == ([process.stdout], [], [])


@pytest.mark.parametrize(
    ("number", "code"), ((signal.SIGINT, 3), (signal.SIGTERM, -signal.SIGTERM))
)
def test_a_signal_reaches_the_process_that_reads_a_dump(number: signal.Signals, code: int) -> None:
    pipe = subprocess.PIPE
    command = (COMMAND, "-c", VMCORE, "explain", "--stdin")
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe) as process:
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        while not children.read_text():
            time.sleep(0.01)
        (child,) = children.read_text().split()
        waiting = Path(f"/proc/{child}/wchan")
        deadline = time.monotonic() + 20
        while "pipe" not in waiting.read_text() and time.monotonic() < deadline:
            time.sleep(0.01)
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
        assert (process.returncode, out) == (code, b"")
        assert len(err.splitlines()) == (code == 3)
    assert not Path(f"/proc/{child}").exists()


@pytest.mark.long
@pytest.mark.parametrize("order", (0, 8, 23, 64, 1 << 31, (1 << 32) - 1))
def test_a_hstate_of_an_order_that_cannot_be(
    elf: Path, tmp_path: Path, order: int, capsys: pytest.CaptureFixture[str]
) -> None:
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
    code = command_line.run(["--format", "json"], open_vmcore(damaged))
    out, err = capsys.readouterr()
    assert (code, err) == (0, "")
    findings = json.loads(out)["findings"]
    assert [finding["rule"] for finding in findings] == ["list-corrupt"]
    assert f"order {order} is impossible" in findings[0]["message"]


def test_btf_that_is_damaged(elf: Path, tmp_path: Path) -> None:
    data = bytearray(elf.read_bytes())
    magic = data.index(b"\x9f\xeb\x01\x00\x18")
    data[magic : magic + 2] = b"\xeb\x9f"
    damaged = tmp_path / "vmcore"
    damaged.write_bytes(data)
    refused(answer(prog=open_vmcore(damaged)), 2, "BTF", "byte order", "-s")


def test_a_dump_filtered_so_hard_that_heads_are_missing(elf: Path, tmp_path: Path) -> None:
    data = bytearray(elf.read_bytes())
    (count,) = struct.unpack_from("<H", data, 56)
    for header in range(64, 64 + 56 * count, 56):
        kind, size = struct.unpack_from("<I28xQ", data, header)
        if kind == 1 and size == 128:  # PT_LOAD of two struct pages
            struct.pack_into("<I", data, header, 0)
    filtered = tmp_path / "vmcore"
    filtered.write_bytes(data)
    done = answer("--format", "json", prog=open_vmcore(filtered))
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
