# SPDX-License-Identifier: LGPL-2.1-or-later

"""The forms in which people have a log: each is made from lines as the kernel wrote them."""

from __future__ import annotations

import base64
import bz2
import gzip
import html
import json
import lzma
import quopri
import re
import textwrap
import zlib
from collections.abc import Sequence

from tests.explain.collected import COLLECTED
from tests.explain.form import Form, cut_at, dmesg, each, in_a_letter, quoted_of, text


def _encoded(charset: str, mark: bytes = b"", end: str = "\n") -> Form:
    return lambda lines: mark + text(lines, end).encode(charset)


def _coloured(lines: Sequence[str]) -> bytes:
    """``dmesg --color=always``: the part before a colon, and what is urgent, have colours."""
    rows = []
    for n, line in enumerate(lines):
        head, colon, rest = line.partition(": ")
        if not colon:
            head, rest = "", line
        subsystem = f"\x1b[33m{head}{colon}\x1b[0m" if head else ""
        rows.append(f"\x1b[32m[  {100 + n}.5] \x1b[0m{subsystem}\x1b[7m\x1b[31m{rest}\x1b[0m\n")
    return "".join(rows).encode()


def _dmesg_json(lines: Sequence[str]) -> bytes:
    rows = [{"pri": 1, "time": f"{100 + n}.5", "msg": line} for n, line in enumerate(lines)]
    return json.dumps({"dmesg": rows}, indent=3).encode()


def _journal(as_bytes: bool = False, indent: int | None = None) -> Form:
    """``journalctl -o json``: what is no UTF-8, or has control characters, is an array of bytes."""

    def form(lines: Sequence[str]) -> bytes:
        records = (
            {
                "_BOOT_ID": "0123456789abcdef0123456789abcdef",
                "PRIORITY": "1",
                "_SOURCE_MONOTONIC_TIMESTAMP": str(n),
                "MESSAGE": list(line.encode()) if as_bytes else line,
                "SYSLOG_IDENTIFIER": "kernel",
            }
            for n, line in enumerate(lines)
        )
        return "\n".join(json.dumps(record, indent=indent) for record in records).encode()

    return form


def _octet_counted(lines: Sequence[str]) -> bytes:
    """RFC 6587: syslog over TCP, where each message has its length before it."""
    messages = each("<1>1 2026-11-26T15:32:04.003Z host kernel - - - {line}")(lines).splitlines()
    return b"".join(b"%d %s" % (len(message), message) for message in messages)


def _export(lines: Sequence[str]) -> bytes:
    """``journalctl -o export``; a field with a control character has its length before it."""
    records = []
    for n, line in enumerate(lines):
        data = line.encode()
        records.append(b"__CURSOR=s=%d\nPRIORITY=1\nMESSAGE\n" % n)
        records.append(len(data).to_bytes(8, "little") + data + b"\n\n")
    return b"".join(records)


def _fragments(lines: Sequence[str]) -> bytes:
    """Extended netconsole whose packets hold 40 bytes of text; they come one after the other."""
    packets = []
    for n, line in enumerate(lines):
        for start in range(0, len(line), 40):
            part = line[start : start + 40]
            packets.append(f"6.12.117,1,{n},{n}00,-,ncfrag={start}/{len(line)};{part}\n")
    return "".join(packets).encode()


def _pstore(lines: Sequence[str]) -> bytes:
    """Parts of 300 bytes, the last one first, as ``cat`` puts the files together."""
    text = "".join(f"<1>[  {100 + n}.5] {line}\n" for n, line in enumerate(lines))
    parts = [text[start : start + 300] for start in range(0, len(text), 300)]
    named = (f"Panic#1 Part{n}\n{part}\n" for n, part in enumerate(reversed(parts), 1))
    return "".join(named).encode()


def _deflated(*parts: bytes) -> bytes:
    """Records in pstore, which a kernel that does not compress cannot unpack."""
    streams = [zlib.compressobj(wbits=-zlib.MAX_WBITS) for _ in parts]
    return b"".join(stream.compress(part) + stream.flush() for stream, part in zip(streams, parts))


def _wrapped(columns: int, first: str = "", rest: str = "") -> Form:
    """As mailers wrap: at spaces."""

    def form(lines: Sequence[str]) -> bytes:
        rows: list[str] = []
        for line in lines:
            parts = textwrap.wrap(line, columns, break_long_words=False, break_on_hyphens=False)
            rows += [(rest if n else first) + part for n, part in enumerate(parts)]
        return "\n".join(rows).encode()

    return form


def _cut(columns: int, prefix: str = "[  100.5] ") -> Form:
    """As terminals wrap: wherever the margin is."""

    def form(lines: Sequence[str]) -> bytes:
        rows: list[str] = []
        for line in lines:
            full = prefix + line
            rows += [full[start : start + columns] for start in range(0, len(full), columns)]
        return "\n".join(rows).encode()

    return form


def _mail(body: bytes, encoding: str, content: str = "text/plain; charset=utf-8") -> bytes:
    headers = (
        "From: A User <user@example.com>\nTo: linux-mm@example.com\n"
        "Subject: [BUG] oops in\n compaction\nMIME-Version: 1.0\n"
        f"Content-Type: {content}\nContent-Transfer-Encoding: {encoding}\n\n"
    )
    return headers.encode() + body


def _quoted_printable(lines: Sequence[str]) -> bytes:
    return _mail(quopri.encodestring(b"Hello,\n\n" + dmesg(lines)), "quoted-printable")


def _quoted_printable_alone(lines: Sequence[str]) -> bytes:
    """The body of a mail, saved without its headers, and quoted in the next one."""
    encoded = quopri.encodestring("".join(f"[  100.5] {line}\n" for line in lines).encode())
    return b"".join(b">> " + row + b"\n" for row in encoded.splitlines())


def _base64(lines: Sequence[str]) -> bytes:
    return _mail(base64.encodebytes(dmesg(lines)), "base64")


def _attached(lines: Sequence[str]) -> bytes:
    """A mail with a compressed attachment."""
    body = (
        b"--=_part\nContent-Type: text/plain\n\nSee the attached log.\n\n--=_part\n"
        b"Content-Type: application/gzip\nContent-Transfer-Encoding: base64\n"
        b'Content-Disposition: attachment; filename="dmesg.gz"\n\n'
    )
    body += base64.encodebytes(gzip.compress(dmesg(lines))) + b"--=_part--\n"
    return _mail(body, "7bit", 'multipart/mixed; boundary="=_part"')


def _in_html(lines: Sequence[str]) -> bytes:
    """A mail whose only part is HTML."""
    part = "--b\nContent-Type: text/html\nContent-Transfer-Encoding: quoted-printable\n\n"
    body = part.encode() + quopri.encodestring(_html(lines)) + b"\n--b--\n"
    return _mail(body, "7bit", 'multipart/alternative; boundary="b"')


def _in_utf_16(lines: Sequence[str]) -> bytes:
    body = base64.encodebytes(text(lines).encode("utf-16"))
    return _mail(body, "base64", "text/plain; charset=utf-16")


def _forwarded(lines: Sequence[str]) -> bytes:
    quoted = b"".join(b"> " + row + b"\n" for row in dmesg(lines).splitlines())
    return b"Hi,\n\n---------- Forwarded message ---------\nFrom: A <a@b>\n\n" + quoted


def _part_alone(lines: Sequence[str]) -> bytes:
    """A part of a mail, after some of the text before it."""
    part = b"--b\nContent-Type: text/plain\nContent-Transfer-Encoding: base64\n\n"
    return b"see below\n\n" + part + base64.encodebytes(dmesg(lines)) + b"--b--\n"


def _elastic(lines: Sequence[str]) -> bytes:
    hits = [{"_source": {"message": line}} for line in lines]
    return json.dumps({"hits": {"total": len(hits), "hits": hits}}).encode()


def _mbox(lines: Sequence[str]) -> bytes:
    mark = b"From user@example.com Thu Nov 26 15:32:49 2026\n"
    return mark + _mail(b"first\n\n", "7bit") + mark + _base64(lines)


def _html(lines: Sequence[str]) -> bytes:
    rows = "<br>\n".join(html.escape(line).replace(" ", "&nbsp;") for line in lines)
    return f'<html><body><pre class="log">{rows}</pre></body></html>'.encode()


def _tracker(lines: Sequence[str]) -> bytes:
    """A comment in a bug tracker, with entities and a quote mark that became one."""
    return "\n".join("&gt; " + html.escape(line) for line in lines).encode()


def _commit(lines: Sequence[str]) -> bytes:
    """Git takes lines that begin with # for comments."""
    return "\n".join("    " + line.replace("#PF", "PF") for line in lines).encode()


def _docker(lines: Sequence[str]) -> bytes:
    return "\n".join(
        json.dumps({"log": line + "\n", "stream": "stdout"}) for line in lines
    ).encode()


def _serial(lines: Sequence[str]) -> bytes:
    """A serial line: NULs between the characters, and two carriage returns."""
    return b"\0\0" + b"\0\r\r\n".join(b"[  100.5] %s\0" % line.encode() for line in lines)


_JOURNAL_ISO = each("2026-11-26T15:32:04+0100 host kernel: {line}")
_LOGCAT = each("11-26 15:32:04.123     0     0 E kernel: {line}")
_CLOUD = each("2026 Nov 26 15:32:04 vm [  {s}] {line}")
_WORKFLOW = each("build\tRun tests\t2026-11-26T15:32:04.1234567Z [  {s}] {line}")

FORMS: dict[str, Form] = {
    "bare": each("{line}"),
    "dmesg": dmesg,
    "dmesg with callers": each("[  {s}][   T71] {line}"),
    "dmesg with callers apart": each("[  {s}] [    C0] {line}"),
    "dmesg -x": each("kern  :alert : [  {s}] {line}"),
    "dmesg -T": each("[Thu Nov 26 15:32:49 2026] {line}"),
    "dmesg -e": each("[Nov26 15:32] {line}"),
    "dmesg -d": each("[  {s} <    0.000012>] {line}"),
    "dmesg, ISO times": each("2026-11-26T15:32:04,123456+00:00 {line}"),
    "dmesg -r": each("<1>[  {s}] {line}"),
    "dmesg --color": _coloured,
    "dmesg --json": _dmesg_json,
    "dmesg, tabs": lambda lines: dmesg(lines).replace(b" ", b"\t"),
    "dmesg, spaces doubled": lambda lines: dmesg(lines).replace(b" ", b"  "),
    "/dev/kmsg": each("1,{n},1004123,-,caller=T71;{line}"),
    "netconsole": each("6.12.117,1,{n},1004123,-;{line}"),
    "netconsole, fragments": _fragments,
    "syslog": each("Nov 26 15:32:04 host kernel: [  {s}] {line}"),
    "syslog, RFC 6587": _octet_counted,
    "syslog, RFC 5424": each("<1>1 2026-11-26T15:32:04.003Z host kernel - - - {line}"),
    "rsyslog": each("2026-11-26T15:32:04.003123+01:00 host.example kernel: [  {s}] {line}"),
    "rsyslog, escapes": lambda lines: each("Nov 26 15:32:04 host kernel:#011{line}#015")(lines),
    "journalctl": each("Nov 26 15:32:04 host kernel: {line}"),
    "journalctl, monotonic": each("[  {s}] host kernel: {line}"),
    "journalctl, full": each("Thu 2026-11-26 15:32:49 UTC host kernel: {line}"),
    "journalctl, delta": each("[  {s} <    0.000012 >] host kernel: {line}"),
    "journalctl, ISO": each("2026-11-26T15:32:04+0100 host kernel: {line}"),
    "journalctl, unix": each("1795793569.{n:06} host kernel: {line}"),
    "journalctl -o json": _journal(),
    "journalctl -o json, bytes": _journal(as_bytes=True),
    "journalctl -o json-pretty": _journal(indent=8),
    "journalctl -o json-seq": lambda lines: b"\x1e" + _journal()(lines).replace(b"\n", b"\n\x1e"),
    "journalctl -o export": _export,
    "journalctl -o verbose": each("Thu 2026-11-26 15:32:49 UTC [s=1]\n    MESSAGE={line}"),
    "JSON after a header": lambda lines: b"-- Logs begin\n" + _journal(as_bytes=True)(lines),
    "crash log -T": each("[Thu Nov 26 15:32:49 UTC 2026] {line}"),
    "cat -n": each("{n:6}\t{line}"),
    "grep -n": each("{n}:[  {s}] {line}"),
    "pager with numbers": each("{n:7} [  {s}] {line}"),
    "logcat": each("11-26 15:32:04.123     0     0 E kernel: {line}"),
    "clock": each("15:32:04 {line}"),
    "clock in brackets": each("[15:32:04.123] {line}"),
    "date with slashes": each("2026/11/26 15:32:04 {line}"),
    "date with dots": each("26.11.2026 15:32:04 {line}"),
    "container": each("2026-11-26T15:32:04.123456789Z stderr F {line}"),
    "compose": each("vm-1  | [  {s}] {line}"),
    "comment": each("// {line}"),
    "unknown logger": each("2026-W48-4T15.32 [vm] {line}"),
    "pstore": _pstore,
    "pstore, quoted": quoted_of(_pstore, b"> "),
    "pstore, indented": quoted_of(_pstore, b"    "),
    "pstore, not unpacked": lambda lines: _deflated(dmesg(lines)),
    "pstore, parts that are not unpacked": lambda lines: _deflated(
        *re.split(rb"(?=Panic#)", _pstore(lines))[1:]
    ),
    "pstore, tabs": lambda lines: _pstore(lines).replace(b" ", b"\t"),
    "serial port of a cloud, in a letter": in_a_letter(_CLOUD),
    "continuous integration, in a letter": in_a_letter(_WORKFLOW),
    "journalctl, ISO, cut at 80": cut_at(_JOURNAL_ISO, 80),
    "logcat, cut at 100": cut_at(_LOGCAT, 100),
    "dmesg, ISO times, cut at 80": cut_at(each("2026-11-26T15:32:04,123456+00:00 {line}"), 80),
    "serial line": _serial,
    "CRLF": _encoded("utf-8", end="\r\n"),
    "CR": _encoded("utf-8", end="\r"),
    "UTF-8 with BOM": _encoded("utf-8-sig"),
    "UTF-16 with BOM": _encoded("utf-16-le", b"\xff\xfe", "\r\n"),
    "UTF-16BE with BOM": _encoded("utf-16-be", b"\xfe\xff", "\r\n"),
    "UTF-16LE": _encoded("utf-16-le", end="\r\n"),
    "UTF-16BE": _encoded("utf-16-be", end="\r\n"),
    "UTF-32": _encoded("utf-32"),
    "gzip": lambda lines: gzip.compress(dmesg(lines)),
    "gzip, appended": lambda lines: gzip.compress(b"first\n") + gzip.compress(dmesg(lines)),
    "bzip2": lambda lines: bz2.compress(dmesg(lines)),
    "xz": lambda lines: lzma.compress(dmesg(lines)),
    "lzma": lambda lines: lzma.compress(dmesg(lines), format=lzma.FORMAT_ALONE),
    "zlib": lambda lines: zlib.compress(dmesg(lines)),
    "gzip, UTF-16": lambda lines: gzip.compress(_encoded("utf-16-le", b"\xff\xfe")(lines)),
    "quoted": each("> [  {s}] {line}"),
    "quoted, deep": each("> >> > >>> [  {s}] {line}"),
    "quoted, tabs": each(">\t>\t>\t[  {s}] {line}"),
    "quoted, initials": each("JD> [  {s}] {line}"),
    "quoted, bars": each(" | [  {s}] {line}"),
    "commit message": _commit,
    "patch": each("+[  {s}] {line}"),
    "mail, quoted-printable": _quoted_printable,
    "quoted-printable, quoted": _quoted_printable_alone,
    "mail, base64": _base64,
    "base64": lambda lines: base64.encodebytes(dmesg(lines)),
    "mail, attachment": _attached,
    "mail, HTML": _in_html,
    "mail, UTF-16": _in_utf_16,
    "mail, CRLF": lambda lines: _quoted_printable(lines).replace(b"\n", b"\r\n"),
    "mail, forwarded": _forwarded,
    "part of a mail": _part_alone,
    "base64 of gzip": lambda lines: base64.encodebytes(gzip.compress(dmesg(lines))),
    "JSON, nested": _elastic,
    "mailbox": _mbox,
    "HTML": _html,
    "bug tracker": _tracker,
    "bug tracker, escaped twice": lambda lines: _tracker(lines).replace(b"&", b"&amp;"),
    "docker": _docker,
    "cat -v": lambda lines: _coloured(lines).replace(b"\x1b", b"^["),
    **{
        f"colours pasted, {name}": lambda lines, escape=escape: (  # type: ignore[misc]
            _coloured(lines).replace(b"\x1b", escape.encode())
        )
        for name, escape in (
            ("escapes lost", ""),
            ("escapes as a symbol", "␛"),
            ("escapes replaced", "\ufffd"),
            ("escapes as ?", "?"),
            ("escapes of less", "ESC"),
            ("escapes of vi", "<1b>"),
        )
    },
    "grep --color": lambda lines: (
        dmesg(lines).replace(b"page", b"[01;31m[Kpage[m[K").replace(b"[  ", b"[32m[K[  ")
    ),
    "escapes written out": lambda lines: _coloured(lines).replace(b"\x1b", b"\\x1b"),
    "one string": lambda lines: "\\n".join(text(lines).split("\n")).encode(),
    "one line": lambda lines: " ".join(text(lines).split("\n")).encode(),
    **COLLECTED,
    **{f"wrapped at {n}": _wrapped(n) for n in (24, 32, 40, 50, 60, 65, 72, 76, 80)},
    **{f"wrapped at {n}, quoted": _wrapped(n, "> ", "> ") for n in (40, 66, 72)},
    "wrapped, quote marks lost": _wrapped(66, "> > ", ""),
    "wrapped, indented": _wrapped(66, "    ", "      "),
    "wrapped, with times": _wrapped(70, "[  100.5] ", ""),
    **{f"cut at {n}": _cut(n) for n in (30, 40, 53, 64, 72, 79, 80)},
    **{f"cut at {n}, without times": _cut(n, "") for n in (40, 61, 77)},
}
"""All forms by their names."""
