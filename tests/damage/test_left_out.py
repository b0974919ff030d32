# SPDX-License-Identifier: LGPL-2.1-or-later

"""
What an ELF dump leaves out at the end of a segment is not taken for zeros that accuse a kernel.

makedumpfile leaves out what it excludes so, and drgn reads zeros there.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any, Callable

import pytest

from drgn_vmemmap import verify
from drgn_vmemmap.errors import MissingMemory
from drgn_vmemmap.extract.recording import extract
from drgn_vmemmap.kernel.discovery import discover
from drgn_vmemmap.target.elf_file import flattened_memory, left_out
from drgn_vmemmap.target.flattened import rearranged
from drgn_vmemmap.target.memory import ProgramMemory
from drgn_vmemmap.target.program import open_dump
from drgn_vmemmap.vmemmap.snapshot import Snapshot
from tests.damage.dumps import flattened
from tests.support import open_vmcore, recorded, vmcore

PT_LOAD = 1
FOLIO = 0x2E00


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The recorded vmcore as an ELF file."""
    path = tmp_path_factory.mktemp("elf") / "vmcore"
    extract(open_vmcore("head-reuse"), str(path), compress=False)
    return path.read_bytes()


@pytest.fixture
def elf(content: bytes, tmp_path: Path) -> Path:
    path = tmp_path / "vmcore"
    path.write_bytes(content)
    return path


def end_segment(path: Path, address: int, end: Callable[[bytes, int], int]) -> int:
    """
    Leave out the end of the segment that holds some physical address.

    :param end: From the segment's content, and where the address is in it: how many bytes stay.
    :return: How many were left out.
    """
    data = bytearray(path.read_bytes())
    (count,) = struct.unpack_from("<H", data, 56)
    for header in range(64, 64 + 56 * count, 56):
        kind, offset, start, size = struct.unpack_from("<I4xQ8xQQ", data, header)
        if kind == PT_LOAD and start <= address < start + size:
            stays = end(bytes(data[offset : offset + size]), address - start)
            struct.pack_into("<Q", data, header + 32, stays)
            path.write_bytes(data)
            return int(size - stays)
    raise ValueError(f"{address:#x} is not in the dump")


def snapshot_of(path: Path) -> Snapshot:
    prog = open_dump(str(path))
    return Snapshot(discover(prog), ProgramMemory(prog))


def without_file(report: dict[str, Any]) -> dict[str, Any]:
    return {**report, "target": {**report["target"], "file": None}}


def test_page_tables_that_are_left_out_are_not_empty(elf: Path) -> None:
    snapshot = snapshot_of(elf)
    entry = snapshot.walker.entry(snapshot.geometry.address(FOLIO)).raw_address
    assert end_segment(elf, entry, lambda data, place: place // 4096 * 4096) >= 4096
    report = verify(open_dump(str(elf)))
    assert not report.broken and report.incomplete


@pytest.mark.long
def test_struct_pages_that_are_left_out_are_not_empty(elf: Path) -> None:
    snapshot = snapshot_of(elf)
    head = snapshot.walker.entry(snapshot.geometry.address(FOLIO)).frame
    assert head is not None
    assert end_segment(elf, head << 12, lambda data, place: place)
    report = verify(open_dump(str(elf)))
    assert not report.broken and report.incomplete


def test_zeros_of_the_kernel_may_be_left_out(elf: Path) -> None:
    kernel = discover(open_dump(str(elf)))
    frame = snapshot_of(elf).walker.entry(kernel.hstates).frame
    assert frame is not None
    address = (frame << 12) + kernel.hstates % 4096
    assert end_segment(elf, address, lambda data, place: len(data.rstrip(b"\0")))
    report = verify(open_dump(str(elf))).to_dict()
    assert without_file(report) == without_file(recorded("head-reuse"))


def test_a_dump_leaves_out_what_no_segment_holds(elf: Path) -> None:
    assert left_out(str(elf)) == []
    snapshot = snapshot_of(elf)
    head = snapshot.walker.entry(snapshot.geometry.address(FOLIO)).frame
    assert head is not None
    size = end_segment(elf, head << 12, lambda data, place: place)
    assert left_out(str(elf)) == [range(head << 12, (head << 12) + size)]
    memory = ProgramMemory(open_dump(str(elf)))
    assert memory.read_data(head << 12, 8) == bytes(8)
    for address in (head << 12, (head << 12) + size - 8):
        with pytest.raises(MissingMemory):
            memory.read(address, 8)


def test_a_flattened_dump_leaves_out_what_the_dump_does(elf: Path, tmp_path: Path) -> None:
    snapshot = snapshot_of(elf)
    entry = snapshot.walker.entry(snapshot.geometry.address(FOLIO)).raw_address
    size = end_segment(elf, entry, lambda data, place: place)
    path = tmp_path / "flattened"
    path.write_bytes(flattened(elf.read_bytes()))
    assert left_out(str(path)) == left_out(str(elf)) == [range(entry, entry + size)]
    memory = ProgramMemory(open_dump(str(path)))
    assert memory.read_data(entry, 8) == bytes(8)
    with pytest.raises(MissingMemory):
        memory.read(entry, 8)


@pytest.mark.long
@pytest.mark.parametrize("kind", ("elf", "kdump"))
def test_a_flattened_extract_gives_the_report_of_the_extract(
    kind: str, elf: Path, tmp_path: Path
) -> None:
    extracted = elf if kind == "elf" else vmcore("head-reuse")
    path = tmp_path / "flattened"
    path.write_bytes(flattened(extracted.read_bytes()))
    report = verify(open_dump(str(path))).to_dict()
    assert without_file(report) == without_file(recorded("head-reuse"))


def test_of_a_flattened_elf_dump_nothing_is_read_beside_what_its_segments_hold(
    elf: Path, tmp_path: Path
) -> None:
    path = tmp_path / "flattened"
    path.write_bytes(flattened(elf.read_bytes()))
    assert flattened_memory(str(elf)) is None
    segments = flattened_memory(str(path))
    assert segments
    memory = ProgramMemory(open_dump(str(path)))
    for segment in segments[:: len(segments) // 50]:
        assert len(memory.read(segment.start, len(segment))) == len(segment)
        for beside in (segment.start - 8, segment.stop):
            with pytest.raises(MissingMemory):
                memory.read_data(beside, 8)


def test_pieces_of_a_flattened_dump_may_be_in_any_order_and_written_again(tmp_path: Path) -> None:
    data = bytes(range(256)) * 16
    stream = flattened(data, 1000)
    head, pieces, end = stream[:4096], stream[4096:-16], stream[-16:]
    first, rest = pieces[:1016], pieces[1016:]
    stale = struct.pack(">qq", 0, 8) + b"\xff" * 8
    path = tmp_path / "flattened"
    path.write_bytes(head + rest + stale + first + end + b"more")
    with path.open("rb") as file:
        assert rearranged(file, 1 << 20).read() == data
        assert rearranged(file, 1500).read() == data[:1500]


def test_a_piece_that_lies_ends(tmp_path: Path) -> None:
    path = tmp_path / "flattened"
    header = flattened(b"")[:4096]
    for offset, size in ((0, -1), (-2, 8), (1 << 62, 8), (0, 1 << 62), (8, 1 << 40)):
        path.write_bytes(header + struct.pack(">qq", offset, size) + b"\x7fELF\2\1\0\0")
        assert left_out(str(path)) == []
