# SPDX-License-Identifier: LGPL-2.1-or-later

"""Damaged and hostile texts: they end, they are printable, and what is lost is said."""

from __future__ import annotations

import base64
import gzip
import io
import json
import lzma
import sys
import tracemalloc
import zlib
from collections.abc import Callable
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drgn_vmemmap.explain.log.reader import find_mentions
from drgn_vmemmap.explain.text.decode import decode
from drgn_vmemmap.explain.text.not_text import NotText
from drgn_vmemmap.explain.text.read import read_file, read_text
from drgn_vmemmap.explain.text_only.report import text_only
from drgn_vmemmap.output.text_only import render
from tests.explain.forms import FORMS
from tests.explain.logs import FAULT, LOG
from tests.fuzz.answers import check_growth

SIZE = 50_000


def shown(data: bytes) -> str:
    """What is said of some bytes, without line ends; empty for what is no text."""
    try:
        text = read_text(data)
    except NotText as error:
        assert len(str(error).splitlines()) == 1
        return ""
    return render(text_only(text.lines), "table").replace("\n", "")


@given(st.binary(max_size=300))
def test_any_bytes_are_explained_or_refused(data: bytes) -> None:
    assert shown(data).isprintable()


@given(st.text(max_size=300))
def test_any_text_is_explained(text: str) -> None:
    assert shown(text.encode("utf-8", "surrogatepass")).isprintable()


@pytest.mark.long
@pytest.mark.parametrize("name", FORMS)
def test_a_damaged_log_is_explained_as_far_as_it_goes(name: str) -> None:
    random = Random(name)
    complete = FORMS[name](LOG)
    for _ in range(10):
        data = bytearray(complete[: random.randrange(len(complete))])
        for _ in range(random.randrange(20) if data else 0):
            data[random.randrange(len(data))] = random.randrange(256)
        assert shown(bytes(data)).isprintable()


@pytest.mark.long
@pytest.mark.parametrize(
    "piece",
    (
        *("\n", "\r", "\r\r\r", "= ", "=\n", "> ", "\x1b[", "\x1b]", "a\b", "\b", "[", "{"),
        *('{"a":', '["', '{"a":1,\n', "[[],\n", "&", "&#x", "<", "<a ", "<br ", "A: b\n", " b\n"),
        *("From a@b Thu Nov 26 15:32:49 2026\n", "6,1,1,-,ncfrag=0/9;", "Panic#1 Part1\nx\n"),
        *("[ 1.0]", "Nov 26 ", "a.b:", "1", "f", "ffffea0000010034\n", "word ", "PGD 1 P4D "),
        *("page: refcount:", "raw: ", "Comm: x Tainted: ", "list_del corruption. ", "KASAN: a "),
        *("Memory failure: ", "Bad page state in process ", "[Hardware Error]: ADDR ", "a+0x1/0x"),
        *("RAX: ", "command line: ", "#011", "\\x1b[", "=3D=20", "flags: 0x1(", "?\n", "pfn: "),
        *("--x\nContent-Type: multipart/mixed; boundary=x\n\n", "__CURSOR=\nMESSAGE\n"),
        *(
            "2026-1 stdout P a\n",
            'x {"a":1}\n',
            'x {"msg":"a"}\n',
            "\\[",
            "\\x41",
            "\\\n",
            ":\n",
            "# ",
        ),
        *(
            "[    T1] a\n",
            "CR2: ffffea0000010034\n",
            "PGD 1 PTE 2001\n",
            " cpu=20\n",
            "CPA ",
            "=20\n",
        ),
        *("WARNING: ", "early exception 0x0e IP ", "PFN range: requested [", "bad pmd ", "aA0/"),
    ),
)
def test_a_text_that_repeats_itself_takes_no_time(piece: str) -> None:
    assert shown((piece * (SIZE // len(piece))).encode()).isprintable()


def test_control_characters_of_a_log_never_reach_the_screen() -> None:
    line = "\x1b[2JMemory failure: 0x2ec5: \x07\x9b31m\u202e\x1b]0;title\x07 x\n"
    said = shown(line.encode())
    assert said.isprintable() and "title" not in said


@pytest.mark.long
@pytest.mark.parametrize("compress", (gzip.compress, lzma.compress))
def test_of_a_compressed_text_that_is_cut_off_the_rest_is_missed(compress: object) -> None:
    assert callable(compress)
    random = Random(1)
    text = "\n".join(f"{random.random()}" for _ in range(50_000)).encode()
    data = compress(text)
    decoded = decode(data[: len(data) * 3 // 4])
    assert decoded.problem is not None and "cut off" in decoded.problem
    assert decoded.text and text.decode().startswith(decoded.text[:100])


def test_a_text_that_is_compressed_over_and_over_is_refused() -> None:
    data = b"x" * 100
    for _ in range(20):
        data = gzip.compress(data)
    with pytest.raises(NotText, match="many times"):
        decode(data)


def test_a_small_file_that_unpacks_to_very_much_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("drgn_vmemmap.explain.text.limits.TEXT_LIMIT", 1 << 20)
    decoded = decode(gzip.compress(b"0123456789\n" * 1_000_000))
    assert decoded.problem == "only the first 1 MiB of the unpacked text were read"
    assert len(decoded.text) == 1 << 20


def attached(*attachments: bytes) -> bytes:
    """A mail, in which each attachment is in base64."""
    head = b'Subject: oops\nContent-Type: multipart/mixed; boundary="b"\n\n'
    part = b"--b\nContent-Type: application/octet-stream\nContent-Transfer-Encoding: base64\n\n"
    return head + b"".join(part + base64.encodebytes(data) for data in attachments) + b"--b--\n"


def test_small_parts_that_unpack_to_very_much_are_cut_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("drgn_vmemmap.explain.text.limits.TEXT_LIMIT", 1 << 16)
    decoded = decode(attached(*[gzip.compress(b"0123456789\n" * 3_000)] * 20))
    assert decoded.problem == "only the first 0 MiB of the unpacked text were read"
    assert decoded.text.count("0123456789\n") == (1 << 16) // 11


@pytest.mark.parametrize("enclosed", (attached, base64.encodebytes))
def test_a_part_that_is_cut_off_is_missed(enclosed: Callable[[bytes], bytes]) -> None:
    log = "\n".join(LOG).encode()
    assert decode(enclosed(gzip.compress(log))).problem is None
    decoded = decode(enclosed(gzip.compress(log)[:-200]))
    assert LOG[0] in decoded.text
    assert decoded.problem is not None and "cut off" in decoded.problem


def test_an_archive_in_a_mail_may_have_a_log_and_a_picture_has_none() -> None:
    archive = attached(b"PK\x03\x04" + bytes(64), "\n".join(LOG).encode())
    assert LOG[0] in decode(archive).text
    assert decode(archive).problem == "a part of this text is a zip archive; unpack it first"
    assert decode(attached(b"\x89PNG" + bytes(64))).problem is None


@pytest.mark.parametrize(
    ("lines", "read", "problem"),
    (
        (100, [*range(100)], None),
        (
            150,
            [*range(50), *range(100, 150)],
            "only the first and the last 50 lines of the text were read",
        ),
    ),
)
def test_lines_in_the_middle_are_missed_beyond_the_limit(
    monkeypatch: pytest.MonkeyPatch, lines: int, read: list[int], problem: str | None
) -> None:
    monkeypatch.setattr("drgn_vmemmap.explain.text.limits.LINES_LIMIT", 100)
    text = read_text("".join(f"BUG: {n}\n" for n in range(lines)).encode())
    assert text.problem == problem
    assert [line.forms[0].text for line in text.lines] == [f"BUG: {n}" for n in read]


class Endless(io.RawIOBase):
    """A pipe that gives what it is asked for, up to some number of lines."""

    def __init__(self, lines: int) -> None:
        self._lines = (f"BUG: {n:010}\n".encode() for n in range(lines))

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        line = next(self._lines, b"")
        buffer[: len(line)] = line
        return len(line)


@pytest.mark.parametrize("lines", (256, 257, 1_000, 10_000))
def test_of_a_text_that_is_too_long_the_first_and_the_last_part_is_read(
    monkeypatch: pytest.MonkeyPatch, lines: int
) -> None:
    monkeypatch.setattr("drgn_vmemmap.explain.text.limits.TEXT_LIMIT", 1 << 12)
    text = read_file(io.BufferedReader(Endless(lines)))
    read = [int(line.forms[0].text.removeprefix("BUG: ")) for line in text.lines]
    if lines == 256:
        assert (read, text.problem) == ([*range(256)], None)
    else:
        assert read == [*range(128), *range(lines - 127, lines)]
        assert text.problem == "only the first and the last 0 MiB of the text were read"


@pytest.mark.long
def test_the_lines_of_a_long_log_are_not_in_memory_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("drgn_vmemmap.explain.text.pieces._BLOCK_SIZE", 1 << 14)
    monkeypatch.setattr("drgn_vmemmap.explain.text.wrapping._GROUPS_AT_ONCE", 1 << 8)
    log = "".join(f"[  1.{n:06}] usb 1-1: new device\n" for n in range(10_000)).encode()
    tracemalloc.start()
    assert sum(1 for _ in read_text(log).lines) == 10_000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * len(log)


@pytest.mark.parametrize("end", ("\n", "\r\n", "\r"))
def test_a_long_log_is_read_as_a_short_one(monkeypatch: pytest.MonkeyPatch, end: str) -> None:
    log = end.join(f"> {n:4} [  1.{n:06}] {line}" for n, line in enumerate(LOG * 5)).encode()
    once = list(read_text(log).lines)
    monkeypatch.setattr("drgn_vmemmap.explain.text.pieces._BLOCK_SIZE", 1 << 10)
    assert list(read_text(log).lines) == once


@pytest.mark.parametrize(
    ("data", "name"),
    (
        (b"\x7fELF\2\1\1\0", "-c"),
        (b"KDUMP   " + bytes(100), "-c"),
        (b"\x89PNG\r\n\x1a\n", "picture"),
        (b"\xff\xd8\xff\xe0", "picture"),
        (b"%PDF-1.7", "PDF"),
        (b"\x04\x22\x4d\x18" + bytes(10), "lz4 -dc FILE"),
        (b"LPKSHHRH" + bytes(10), "journalctl"),
        (b"SQLite format 3\0" + b"memory read error" * 9, "ras-mc-ctl"),
        (b"PERFILE2" + b"kcompactd0" * 9, "perf script"),
        (b"\x17\x08Dtracing6" + b"kcompactd0" * 9, "trace-cmd report"),
        (bytes(4096), "NUL"),
    ),
)
def test_what_is_no_text_is_called_by_its_name(data: bytes, name: str) -> None:
    with pytest.raises(NotText, match=name):
        decode(data)


def test_a_text_in_an_old_charset_is_read() -> None:
    assert "Memory failure" in decode("Größe: äöü\nMemory failure: 0x1: x".encode("latin-1")).text


def test_no_text_is_empty() -> None:
    assert list(read_text(b"").lines) == []


def test_a_number_at_the_end_of_a_line_is_no_quoted_printable() -> None:
    log = "x86/mm: node=0 first=0F cpu=20\nlist_add double add: new=0F\n"
    assert decode(log.encode()).text == log


def test_trailing_spaces_alone_are_quoted_printable() -> None:
    assert decode(b"migrating pfn 2ec5 failed=20\n> ret:1 =20\n").text.count("=") == 0


def test_a_text_that_is_compressed_with_zstd_is_read_or_the_command_for_it_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    zstd = pytest.importorskip(
        "compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd",
        reason="neither Python nor a package unpacks zstd here",
    )
    log = "\n".join(LOG)
    compressed = zstd.compress(log[:300].encode()) + zstd.compress(log[300:].encode())
    assert decode(compressed).text == log
    cut = decode(compressed[:-40])
    assert log.startswith(cut.text) and cut.problem is not None and "cut off" in cut.problem
    with pytest.raises(NotText, match="damaged"):
        decode(compressed[:4] + bytes(100))
    monkeypatch.setattr("drgn_vmemmap.explain.text.compression._ZSTD_MODULES", ())
    with pytest.raises(NotText, match=r"zstd -dc FILE \| drgn-vmemmap explain --stdin"):
        decode(compressed)


@pytest.mark.parametrize("compress", (gzip.compress, lzma.compress, zlib.compress))
@pytest.mark.parametrize("missing", (1, 8, 200))
def test_a_short_log_whose_compressed_end_is_missing_is_read_as_far_as_it_goes(
    compress: Callable[[bytes], bytes], missing: int
) -> None:
    log = "\n".join(LOG)
    cut = decode(compress(log.encode())[:-missing])
    assert cut.problem is not None and "cut off" in cut.problem
    assert cut.text and log.startswith(cut.text)
    assert len(cut.text) > len(log) // 2


@pytest.mark.parametrize("compress", (gzip.compress, lzma.compress, zlib.compress))
@pytest.mark.parametrize("place", (-1, -20, -300))
def test_a_short_log_is_read_up_to_where_its_compressed_file_is_damaged(
    compress: Callable[[bytes], bytes], place: int
) -> None:
    log = "\n".join(LOG).encode()
    data = bytearray(compress(log))
    data[place : place + 8 or None] = b"\xff" * -max(place, -8)
    damaged = decode(bytes(data))
    assert LOG[0] in damaged.text
    assert damaged.problem is not None and "damaged" in damaged.problem


@pytest.mark.parametrize(
    "line",
    (
        lambda times: b"6,1,1,-" + 6 * times * b",a" + b" BUG",
        lambda times: 250 * times * b"6,1,1,-,ncfrag=0" + b" BUG",
    ),
    ids=("fields", "fragments"),
)
def test_what_resembles_a_record_of_dev_kmsg_is_read_in_linear_time(
    line: Callable[[int], bytes],
) -> None:
    def read(times: int) -> None:
        assert shown(line(times))

    check_growth(read)


@pytest.mark.parametrize(
    "name", [name for name in FORMS if "base64" in name or name in ("mailbox", "part of a mail")]
)
@pytest.mark.parametrize("missing", (1, 2, 3, 4, 33))
def test_base64_whose_end_is_missing_is_read_as_far_as_it_goes(name: str, missing: int) -> None:
    (fault, *_) = find_mentions(read_text(FORMS[name](LOG)[:-missing]).lines).named
    assert (fault.value, fault.access) == (FAULT, "write")


def test_a_compressed_log_with_something_else_after_it_is_read() -> None:
    log = "\n".join(LOG)
    assert decode(gzip.compress(log.encode()) + bytes(512)) == (log, None)
    assert decode(gzip.compress(log.encode()) + b"junk").text == log
    for after in (b"\n", bytes(512)):
        assert decode(zlib.compress(log.encode()) + after) == (log, None)
    assert decode(zlib.compress(log.encode()) + b"junk").text == log


@pytest.mark.parametrize("charset", ("utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"))
def test_a_charset_without_a_byte_order_mark_keeps_all_characters(charset: str) -> None:
    text = "Memory failure: 0x2ec5: x\n" * 20 + "Größe: 1"
    assert decode(text.encode(charset)).text == text


def test_bytes_of_a_journal_that_are_no_characters_are_read() -> None:
    record = json.dumps({"MESSAGE": [*b"migrating pfn 2ec5 failed ret:1 ", 255, 0]})
    assert decode(record.encode()).text.startswith("migrating pfn 2ec5 failed ret:1 ")
