# SPDX-License-Identifier: LGPL-2.1-or-later

"""A file that is not a dump, or only a part of one, is recognised by its bytes."""

from __future__ import annotations

import bz2
import errno
import gzip
import io
import lzma
import os
import socket
import stat
import struct
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path

import drgn
import pytest

from drgn_vmemmap.errors import CannotAnalyse
from drgn_vmemmap.extract.recording import extract
from drgn_vmemmap.target import kdump_file
from drgn_vmemmap.target.dump_file import missing_bytes, why_not_a_dump
from drgn_vmemmap.target.elf_file import ELF, flattened_memory, left_out
from drgn_vmemmap.target.flattened import FLATTENED, rearranged
from drgn_vmemmap.target.kdump_file import page_bitmap
from drgn_vmemmap.target.kdump_names import is_nameless, machine
from drgn_vmemmap.target.program import cannot_open, open_dump, what_is_cut_off
from drgn_vmemmap.target.recorded_pages import guarded
from tests.damage.dumps import flattened
from tests.support import ROOT, VMCORES, open_vmcore, vmcore

KDUMP = vmcore("head-reuse")


@pytest.fixture(scope="module")
def elf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("elf") / "vmcore"
    extract(open_vmcore("head-reuse"), str(path), compress=False)
    return path


@pytest.mark.parametrize("path", VMCORES, ids=lambda path: path.stem)
def test_a_dump_is_a_dump_and_lacks_nothing(path: Path) -> None:
    assert why_not_a_dump(str(path)) is None
    assert missing_bytes(str(path)) == 0


def test_an_elf_dump_lacks_nothing(elf: Path) -> None:
    assert why_not_a_dump(str(elf)) is None
    assert missing_bytes(str(elf)) == 0


def _tar() -> bytes:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as members:
        members.addfile(tarfile.TarInfo("vmcore"))
    return archive.getvalue()


@pytest.mark.parametrize(
    ("content", "words"),
    (
        (gzip.compress(b"dump", mtime=0), "gunzip"),
        (lzma.compress(b"dump"), "unxz"),
        (bz2.compress(b"dump"), "bunzip2"),
        (b"\x28\xb5\x2f\xfd\x04\x58", "unzstd"),
        (b"\x04\x22\x4d\x18\x64\x40", "unlz4"),
        (b"\x1f\x9d\x90", "uncompress"),
        (lzma.compress(b"dump", format=lzma.FORMAT_ALONE), "unlzma"),
        (b"LZIP\1", "lzip -d"),
        (b"7z\xbc\xaf\x27\x1c", "unpack it"),
        (b"Rar!\x1a\7\0", "unpack it"),
        (_tar(), "tar archive"),
        (b"QFI\xfb\0\0\0\3", "disk"),
        (b"EMiL\1\0\0\0", "take a dump"),
        (b"AVML\2\0\0\0", "take a dump"),
        (bytes.fromhex("53ff00f0 53ff00f0 c3e200f0 53ff00f0"), "take a dump"),
        (b"\xd2\xbe\xd2\xbe\x08\0\0\0", "vmss2core"),
        (b"PAGEDU64", "Windows"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (b"[    0.000000] Linux version 6.12.118\n", "explain --stdin"),
        (b"<!DOCTYPE html>\n", "download"),
        (b"LibvirtQemudSave\2\0\0\0", "virsh dump --memory-only"),
        (b"QEVM\0\0\0\3", "virsh dump --memory-only"),
        (b"", "empty"),
        (b"KDUMP   \6\0\0\0Linux", "cut off"),
    ),
)
def test_what_is_taken_for_a_dump_gets_an_advice(
    content: bytes, words: str, tmp_path: Path
) -> None:
    path = tmp_path / "vmcore"
    path.write_bytes(content)
    with pytest.raises(CannotAnalyse) as raised:
        open_dump(str(path))
    assert str(raised.value).startswith(f"{path} is ") and words in str(raised.value)


def test_a_directory_is_not_a_dump(tmp_path: Path) -> None:
    with pytest.raises(CannotAnalyse, match="is a directory: give the dump in it"):
        open_dump(str(tmp_path))


def test_a_fifo_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    assert "FIFO" in str(why_not_a_dump(str(tmp_path / "fifo")))


def test_a_socket_is_not_a_dump() -> None:
    # A UNIX socket's path must be short.
    with tempfile.TemporaryDirectory() as directory, socket.socket(socket.AF_UNIX) as server:
        server.bind(f"{directory}/socket")
        assert "socket" in str(why_not_a_dump(f"{directory}/socket"))


def test_other_files_and_missing_ones_are_left_to_drgn(tmp_path: Path) -> None:
    for path in (ROOT / "Makefile", tmp_path / "nothing", Path("/dev/null")):
        assert why_not_a_dump(str(path)) is None
        assert missing_bytes(str(path)) == 0


@pytest.mark.parametrize("missing", (1, 5000, 1_000_000, 3_000_000))
def test_a_kdump_lacks_what_was_cut_off(missing: int, tmp_path: Path) -> None:
    data = KDUMP.read_bytes()
    path = tmp_path / "vmcore"
    path.write_bytes(data[:-missing])
    assert missing_bytes(str(path)) == missing


def test_a_kdump_that_lacks_its_last_bytes_is_opened(tmp_path: Path) -> None:
    path = tmp_path / "vmcore"
    path.write_bytes(KDUMP.read_bytes()[:-1])
    assert why_not_a_dump(str(path)) is None
    open_dump(str(path))


@pytest.mark.parametrize("missing", (1, 5000, 1_000_000))
def test_an_elf_dump_lacks_what_was_cut_off(missing: int, elf: Path, tmp_path: Path) -> None:
    path = tmp_path / "vmcore"
    path.write_bytes(elf.read_bytes()[:-missing])
    assert missing_bytes(str(path)) == missing


@pytest.mark.parametrize("size", (8, 16, 440, 4096, 5000, 20_000, 100_000))
def test_a_kdump_that_ends_within_its_bitmaps_is_not_opened(size: int, tmp_path: Path) -> None:
    # libkdumpfile maps them: reading one would end the process by SIGBUS.
    path = tmp_path / "vmcore"
    path.write_bytes(KDUMP.read_bytes()[:size])
    with pytest.raises(CannotAnalyse, match="cut off before its first page"):
        open_dump(str(path))


def test_a_dump_on_a_device_is_not_said_to_be_cut_off(
    elf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # drgn says so of an ELF file on a device, whose size is 0. Only root can make a device here.
    monkeypatch.setattr(stat, "S_ISBLK", lambda mode: True)
    monkeypatch.setattr(stat, "S_ISREG", lambda mode: False)
    monkeypatch.setattr(os, "fstat", lambda file: os.stat(os.devnull))
    error = cannot_open(str(elf), "not an ELF core file")
    assert str(error).endswith("not an ELF core file: copy it from the device to a file first")


@pytest.mark.parametrize("missing", (5000, 9000))
def test_a_kdump_that_ends_within_its_notes_is_not_opened(missing: int, tmp_path: Path) -> None:
    path = tmp_path / "vmcore"
    path.write_bytes(KDUMP.read_bytes()[:-missing])
    with pytest.raises(CannotAnalyse, match="cut off within its notes"):
        open_dump(str(path))


# Where struct kdump_sub_header has offset_vmcoreinfo, offset_note and offset_eraseinfo.
@pytest.mark.parametrize("part", (4128, 4144, 4160))
def test_a_kdump_whose_notes_end_beyond_it_is_not_opened(part: int, tmp_path: Path) -> None:
    data = bytearray(KDUMP.read_bytes())
    struct.pack_into("<QQ", data, part, len(data) - 100, 1 << 40)
    path = tmp_path / "vmcore"
    path.write_bytes(data)
    with pytest.raises(CannotAnalyse, match="cut off within its notes"):
        open_dump(str(path))


def test_a_kdump_without_its_end_says_so(tmp_path: Path) -> None:
    path = tmp_path / "vmcore"
    path.write_bytes(KDUMP.read_bytes()[:2_000_000])
    missing = KDUMP.stat().st_size - 2_000_000
    with pytest.raises(CannotAnalyse, match=f"cut off, {missing:,} bytes or more are missing"):
        open_dump(str(path))


@pytest.mark.parametrize("offset", (428, 432, 436))
@pytest.mark.parametrize("value", (0, 1, 1 << 31, (1 << 32) - 1))
def test_a_kdump_with_a_damaged_header_is_no_trouble(
    offset: int, value: int, tmp_path: Path
) -> None:
    data = bytearray(KDUMP.read_bytes()[:300_000])
    struct.pack_into("<I", data, offset, value)
    path = tmp_path / "vmcore"
    path.write_bytes(data)
    assert missing_bytes(str(path)) >= 0
    why_not_a_dump(str(path))


@pytest.mark.parametrize("offset", (32, 40, 56))
def test_an_elf_file_with_a_damaged_header_is_no_trouble(
    offset: int, elf: Path, tmp_path: Path
) -> None:
    data = bytearray(elf.read_bytes()[:300_000])
    data[offset : offset + 2] = b"\xff\xff"
    data[offset + 6 : offset + 8] = b"\xff\xff"
    path = tmp_path / "vmcore"
    path.write_bytes(data)
    assert missing_bytes(str(path)) >= 0


def test_a_dump_that_makedumpfile_could_not_complete_says_so(tmp_path: Path) -> None:
    path = tmp_path / "vmcore"
    data = bytearray(KDUMP.read_bytes())
    path.write_bytes(data)
    assert what_is_cut_off(str(path)) is None
    data[424] |= 8
    path.write_bytes(data)
    assert "makedumpfile could not write all of it" in str(what_is_cut_off(str(path)))


def test_a_part_of_a_dump_says_that_it_is_one(tmp_path: Path) -> None:
    path = tmp_path / "vmcore"
    data = bytearray(KDUMP.read_bytes())
    # struct kdump_sub_header, split.
    struct.pack_into("<i", data, 4096 + 12, 1)
    path.write_bytes(data)
    assert "makedumpfile --reassemble" in str(what_is_cut_off(str(path)))


def test_a_flattened_dump_is_opened_and_says_what_to_do_if_it_cannot_be(tmp_path: Path) -> None:
    path = tmp_path / "vmcore"
    data = flattened(KDUMP.read_bytes())
    path.write_bytes(data)
    assert open_dump(str(path)).flags & drgn.ProgramFlags.IS_LINUX_KERNEL
    for size in (4096, len(data) // 2, len(data) - 16):
        path.write_bytes(data[:size])
        with pytest.raises(CannotAnalyse, match=r"flattened.*copy it again.*makedumpfile -R"):
            open_dump(str(path))


def test_a_kdump_of_another_machine_says_so(tmp_path: Path) -> None:
    path = tmp_path / "vmcore"
    data = bytearray(KDUMP.read_bytes())
    assert machine(str(KDUMP)) == "x86_64" and not is_nameless(str(KDUMP))
    data[272:279] = b"s390x\0\0"
    path.write_bytes(data)
    with pytest.raises(CannotAnalyse, match="s390x: only x86-64"):
        open_dump(str(path))


@pytest.mark.parametrize("form", (bytes, flattened))
def test_a_kdump_with_pages_of_another_size_is_of_another_machine(
    form: Callable[[bytes], bytes], tmp_path: Path
) -> None:
    path = tmp_path / "vmcore"
    data = bytearray(KDUMP.read_bytes())
    data[428:432] = (1 << 16).to_bytes(4, "little")
    # Headers are as large as pages.
    path.write_bytes(form(bytes(data).ljust(64 << 16, b"\0")))
    with pytest.raises(CannotAnalyse, match="has pages of 65,536 bytes: only x86-64"):
        open_dump(str(path))


def test_a_flattened_kdump_of_another_machine_says_so(tmp_path: Path) -> None:
    path = tmp_path / "vmcore"
    data = bytearray(KDUMP.read_bytes())
    data[272:279] = b"s390x\0\0"
    path.write_bytes(flattened(bytes(data)))
    with pytest.raises(CannotAnalyse, match="s390x: only x86-64"):
        open_dump(str(path))


@pytest.mark.parametrize("number", (0, 2, 3), ids=("system", "release", "version"))
def test_a_kdump_that_does_not_name_its_kernel_is_opened(number: int, tmp_path: Path) -> None:
    # As QEMU writes it: libkdumpfile does not believe its machine, either.
    path = tmp_path / "vmcore"
    data = bytearray(KDUMP.read_bytes())
    start = 12 + 65 * number
    data[start : start + 65] = bytes(65)
    for content in (bytes(data), flattened(bytes(data))):
        path.write_bytes(content)
        assert is_nameless(str(path))
        assert open_dump(str(path)).flags & drgn.ProgramFlags.IS_LINUX_KERNEL


@pytest.mark.long
def test_only_a_kdump_of_x86_64_may_be_nameless(elf: Path, tmp_path: Path) -> None:
    path = tmp_path / "vmcore"
    data = bytearray(KDUMP.read_bytes())
    data[12:77] = bytes(65)
    data[272:280] = b"aarch64\0"
    path.write_bytes(data)
    assert machine(str(path)) == "aarch64" and not is_nameless(str(path))
    assert machine(str(elf)) is None and not is_nameless(str(elf))


@pytest.mark.parametrize(("offset", "length"), ((-1, -1), (-2, 2), (0, -2), (0, 0)))
def test_a_flattened_dump_ends_with_a_piece_that_has_no_place_or_no_size(
    offset: int, length: int
) -> None:
    pieces = ((3, b"d"), (0, b"abc"), (5, b"beyond"))
    data = FLATTENED.ljust(4096, b"\0")
    for at, piece in pieces:
        data += struct.pack(">qq", at, len(piece)) + piece
    data += struct.pack(">qq", offset, length) + struct.pack(">qq2s", 0, 2, b"zz")
    assert rearranged(io.BytesIO(data), 5).read() == b"abcd"


def test_a_kdump_without_vmcoreinfo_says_how_to_give_it(tmp_path: Path) -> None:
    path = tmp_path / "vmcore"
    data = bytearray(KDUMP.read_bytes())
    for offset in (32, 48):  # offset_vmcoreinfo and offset_note, with their sizes
        struct.pack_into("<QQ", data, 4096 + offset, 0, 0)
    path.write_bytes(data)
    with pytest.raises(CannotAnalyse, match=r"has no VMCOREINFO: .* --vmcoreinfo"):
        open_dump(str(path))


def test_a_dump_by_xen_is_not_taken_for_one_that_lacks_vmcoreinfo_alone(
    elf: Path, tmp_path: Path
) -> None:
    # Its memory is in a section, .xen_pages.
    path = tmp_path / "core"
    header = bytearray(elf.read_bytes()[:64])
    struct.pack_into("<H", header, 56, 0)  # e_phnum
    path.write_bytes(header)
    with pytest.raises(CannotAnalyse, match=r"xl dump-core has none: take a dump with kdump"):
        open_dump(str(path))


def test_a_module_is_not_taken_for_a_dump_by_xen(elf: Path, tmp_path: Path) -> None:
    path = tmp_path / "module.ko"
    header = bytearray(elf.read_bytes()[:64])
    struct.pack_into("<H", header, 16, 1)  # e_type: ET_REL
    struct.pack_into("<H", header, 56, 0)  # e_phnum
    path.write_bytes(header)
    with pytest.raises(CannotAnalyse, match="not an ELF core file"):
        open_dump(str(path))


@pytest.mark.parametrize("path", VMCORES, ids=lambda path: path.stem)
def test_the_bitmap_of_a_kdump_says_which_pages_can_be_read(path: Path) -> None:
    bitmap, prog = page_bitmap(str(path)), open_dump(str(path))
    assert bitmap is not None
    pfns = range(8 * len(bitmap))
    has = [pfn for pfn in pfns if bitmap[pfn >> 3] >> (pfn & 7) & 1]
    assert has
    for pfn in has[:: max(1, len(has) // 200)]:
        assert len(prog.read(pfn << 12, 4096, physical=True)) == 4096
    for pfn in sorted({pfn + 1 for pfn in has} - {*has})[:20]:
        with pytest.raises(Exception, match=r"could not read memory|xcluded"):
            prog.read(pfn << 12, 4096, physical=True)


@pytest.mark.long
@pytest.mark.parametrize("chunk", (1 << 16, 64))
def test_the_bitmap_lacks_pages_that_end_beyond_a_file(
    chunk: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kdump_file, "_CHUNK", chunk)
    whole, data = page_bitmap(str(KDUMP)), KDUMP.read_bytes()
    assert whole is not None
    bits = whole[:]
    path = tmp_path / "vmcore"
    block_size, sub_header, bitmaps = struct.unpack_from("<3I", data, 428)
    start = (1 + sub_header + bitmaps) * block_size
    pfns = [pfn for pfn in range(8 * len(bits)) if bits[pfn >> 3] >> (pfn & 7) & 1]
    places = [struct.unpack_from("<QI", data, start + 24 * number) for number in range(len(pfns))]
    for number in (len(pfns) - 1, len(pfns) // 2, 1):
        offset, length = places[number]
        for missing, lacks in ((0, number + 1), (1, number), (length - 1, number)):
            path.write_bytes(data[: offset + length - missing])
            bitmap = page_bitmap(str(path))
            assert bitmap is not None
            there = bitmap[:].ljust(len(bits), b"\0")
            assert [pfn for pfn in pfns if there[pfn >> 3] >> (pfn & 7) & 1] == pfns[:lacks]
    for size in (start, start + 24 * 3 + 1):
        path.write_bytes(data[:size])
        bitmap = page_bitmap(str(path))
        assert bitmap is not None and not any(bitmap)


@pytest.mark.parametrize("begins_with_zeros", (True, False))
@pytest.mark.parametrize("zeros", (3, None))
def test_pages_of_zeros_at_the_end_do_not_hide_that_a_file_is_cut_off(
    zeros: int | None, begins_with_zeros: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They all lead to one page before all others, be it that of the first PFN or not."""
    monkeypatch.setattr(kdump_file, "_DESCRIPTORS", 2)
    whole, data = page_bitmap(str(KDUMP)), bytearray(KDUMP.read_bytes())
    assert whole is not None
    pages = kdump_file._count_bits(whole[:])
    block_size, sub_header, bitmaps = struct.unpack_from("<3I", data, 428)
    start = (1 + sub_header + bitmaps) * block_size
    last = pages - (pages if zeros is None else zeros)
    data[start + 24 * last : start + 24 * pages] = data[start : start + 24] * (pages - last)
    if not begins_with_zeros:
        data[start : start + 24] = data[start + 24 : start + 48]
    offset, length = struct.unpack_from("<QI", data, start + 24 * max(0, last - 1))
    # The notes, which come after the pages, are not in the way.
    data[4128:4176] = bytes(48)
    path = tmp_path / "vmcore"
    for missing, left in ((0, pages), (1, max(0, last - 1))):
        path.write_bytes(data[: offset + length - missing])
        bitmap = page_bitmap(str(path))
        assert bitmap is not None and kdump_file._count_bits(bitmap[:]) == left
        assert missing_bytes(str(path)) == missing


def test_a_kdump_whose_first_page_lies_far_beyond_it_has_no_pages(tmp_path: Path) -> None:
    data, far = bytearray(KDUMP.read_bytes()), 1 << 62
    block_size, sub_header, bitmaps = struct.unpack_from("<3I", data, 428)
    struct.pack_into("<Q", data, (1 + sub_header + bitmaps) * block_size, far)
    path = tmp_path / "vmcore"
    path.write_bytes(data)
    bitmap = page_bitmap(str(path))
    assert bitmap is not None and not any(bitmap)
    assert missing_bytes(str(path)) >= far - len(data)
    # Without a page, there is no first one.
    middle = (1 + sub_header) * block_size + bitmaps * block_size // 2
    data[middle : middle + bitmaps * block_size // 2] = bytes(bitmaps * block_size // 2)
    path.write_bytes(data)
    assert missing_bytes(str(path)) == 0


def test_only_a_kdump_has_a_bitmap(elf: Path, tmp_path: Path) -> None:
    assert page_bitmap(str(elf)) is None
    cut_off = tmp_path / "vmcore"
    cut_off.write_bytes(KDUMP.read_bytes()[:9000])
    assert page_bitmap(str(cut_off)) is None


def test_a_bitmap_is_read_where_it_cannot_be_mapped(monkeypatch: pytest.MonkeyPatch) -> None:
    mapped = page_bitmap(str(KDUMP))
    assert mapped is not None

    def too_many(*arguments: object, **options: object) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr("mmap.mmap", too_many)
    assert page_bitmap(str(KDUMP)) == mapped[:]


def test_a_file_that_cannot_be_read_is_not_said_to_have_no_bitmap(tmp_path: Path) -> None:
    for find in page_bitmap, left_out, flattened_memory:
        with pytest.raises(FileNotFoundError):
            find(str(tmp_path / "none"))


def test_a_flattened_dump_that_ends_within_its_headers_describes_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "vmcore"
    path.write_bytes(flattened(ELF + bytes(16)))
    assert flattened_memory(str(path)) == []


def test_a_page_that_a_kdump_lacks_is_not_asked_for() -> None:
    bitmap, prog = page_bitmap(str(KDUMP)), open_vmcore("head-reuse")
    assert bitmap is not None
    pfns = range(64, 8 * len(bitmap))
    absent = next(pfn for pfn in pfns if not bitmap[pfn >> 3] >> (pfn & 7) & 1)
    asked: list[int] = []

    class Spy:
        """A program that notes what it is asked for."""

        flags, core_dump_path, cache = prog.flags, str(KDUMP), prog.cache

        def read(self, address: int, size: int, physical: bool) -> bytes:
            asked.append(address >> 12)
            return bytes(prog.read(address, size, physical))

    read = guarded(Spy())
    for number in (1, 3):
        with pytest.raises(drgn.FaultError):
            read(absent << 12, 4096 * number, True)
    with pytest.raises(drgn.FaultError):
        read(8 * len(bitmap) << 12, 8, True)
    assert asked == []
