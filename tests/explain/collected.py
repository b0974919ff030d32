# SPDX-License-Identifier: LGPL-2.1-or-later

"""Forms that collectors of logs, test harnesses and bug trackers make."""

from __future__ import annotations

import base64
import gzip
import html
import json
import quopri
import re
import textwrap
import zlib
from collections.abc import Sequence
from typing import Callable

from tests.explain.form import Form, cut_at, dmesg, each, in_a_letter, quoted_of, text


def _dictionaries(lines: Sequence[str]) -> bytes:
    """/dev/kmsg: after a record, its device; netconsole: what the user has it add."""
    rows = (
        f"1,{n},1004123,-;{line}\n SUBSYSTEM=pci\n DEVICE=+pci:0000:00:01.0\n"
        f" cpu=3\n taskname=kcompactd0\n release=6.12.117\n msgid={n}\n"
        for n, line in enumerate(lines)
    )
    return "".join(rows).encode()


def _escapes(lines: Sequence[str]) -> bytes:
    """/dev/kmsg and strace write bytes in hex."""
    rows = (line.replace("#", "\\x23").replace("(", "\\x28") for line in lines)
    return each("1,{n},1004123,-;{line}")(list(rows))


def _in_json_lines(prefix: str) -> Form:
    """A collector's own line, with the record as an object at its end."""

    def form(lines: Sequence[str]) -> bytes:
        rows = (prefix + json.dumps({"priority": "err", "message": line}) for line in lines)
        return "\n".join(rows).encode()

    return form


def _ec2(lines: Sequence[str]) -> bytes:
    """``aws ec2 get-console-output`` as the interface answers it, in base64."""
    output = base64.b64encode(dmesg(lines).replace(b"\n", b"\r\n")).decode()
    return json.dumps({"InstanceId": "i-1", "Output": output, "Timestamp": "2026"}).encode()


def _containers(lines: Sequence[str]) -> bytes:
    """A container runtime cuts long lines: all parts but the last one are partial."""
    time = "2026-11-26T15:32:04.123456789Z"
    rows = (
        f"{time} stdout P {line[:12]}\n{time} stdout P {line[12:24]}\n{time} stdout F {line[24:]}\n"
        for line in lines
    )
    return "".join(rows).encode()


def _markdown(lines: Sequence[str]) -> bytes:
    """Pasted without a fence: what would be markup is escaped, and lines are kept apart."""
    rows = (re.sub(r"([\[\]_*#<>])", r"\\\1", row) for row in text(lines).splitlines())
    return "\\\n".join(rows).encode()


def _fenced(lines: Sequence[str]) -> bytes:
    rows = b"".join(b"> " + row + b"\n" for row in dmesg(lines).splitlines())
    return b"<details><summary>dmesg</summary>\n\n> ```console\n" + rows + b"> ```\n</details>\n"


def _records(record: Callable[[str], object]) -> Form:
    """A record of JSON for each line."""
    return lambda lines: "\n".join(json.dumps(record(line)) for line in lines).encode()


def _loki(lines: Sequence[str]) -> bytes:
    """As Loki's interface answers: a time in nanoseconds beside each line."""
    values = [[str(1795793569000000000 + n), line] for n, line in enumerate(lines)]
    stream = {"stream": {"host": "vm"}, "values": values}
    return json.dumps({"data": {"resultType": "streams", "result": [stream]}}).encode()


def _telemetry(lines: Sequence[str]) -> bytes:
    records = [{"body": {"stringValue": line}} for line in lines]
    return json.dumps({"resourceLogs": [{"scopeLogs": [{"logRecords": records}]}]}).encode()


def _recorded(lines: Sequence[str]) -> bytes:
    """As asciinema records a terminal: what was read at once, which ends anywhere."""
    output = text(lines, "\r\n")
    pieces = [output[start : start + 37] for start in range(0, len(output), 37)]
    events = [[number / 10, "o", piece] for number, piece in enumerate(pieces)]
    header = {"version": 2, "width": 80, "height": 24}
    return "\n".join(map(json.dumps, [header, [0, "i", "dmesg\r"], *events])).encode()


def _recorded_whole(lines: Sequence[str]) -> bytes:
    """The same in its first version."""
    stdout = [[0.1, row + "\r\n"] for row in text(lines).splitlines()]
    return json.dumps({"version": 1, "width": 80, "height": 24, "stdout": stdout}).encode()


def _exported(lines: Sequence[str]) -> bytes:
    """``journalctl -o export``, whose fields are not sorted."""
    rows = (
        f"__CURSOR=s=a;i={n}\n_BOOT_ID=0\nPRIORITY=1\nMESSAGE={line}\n_TRANSPORT=kernel\n\n"
        for n, line in enumerate(lines)
    )
    return "".join(rows).encode()


def _marked(lines: Sequence[str]) -> bytes:
    """HTML with marks for what was searched for, and places where numbers may be wrapped."""
    rows = html.escape(text(lines)).replace("BUG", "<strong>BUG</strong>").splitlines()
    marked = (row.replace("ffa09b", "<mark>ffa0</mark>9b<wbr>") for row in rows)
    return "".join(f"<dd>{row}</dd>" for row in marked).encode()


def _verbose(lines: Sequence[str]) -> bytes:
    """``journalctl -o verbose``, with fields before and after the message."""
    rows = (
        f"Thu 2026-11-26 15:32:49.123456 UTC [s=3c5a;i={n};b=0123;m=5f3;t=62;x=9d2]\n"
        "    _TRANSPORT=kernel\n    PRIORITY=1\n    SYSLOG_IDENTIFIER=kernel\n"
        f"    MESSAGE={line}\n    _KERNEL_SUBSYSTEM=pci\n    _HOSTNAME=a host\n"
        for n, line in enumerate(lines)
    )
    return "".join(rows).encode()


def _context(lines: Sequence[str]) -> bytes:
    """``grep -n -A``: a colon after the number of a line that was found, a dash after others."""
    rows = (f"{n}{':' if 'BUG' in line else '-'}{line}\n" for n, line in enumerate(lines, 97))
    return "".join(rows).encode()


def _newest_first(form: Form) -> Form:
    return lambda lines: b"\n".join(reversed(form(lines).splitlines()))


def _panic_screen(encode: Callable[[bytes], str], name: str) -> Form:
    """The web address in the QR code of a panic screen."""

    def form(lines: Sequence[str]) -> bytes:
        stream = zlib.compressobj(6, zlib.DEFLATED, 12, 4)
        digits = encode(stream.compress(dmesg(lines)) + stream.flush())
        site = "https://panic.example.com/panic_report#"
        return f"{site}?a=x86_64&v=6.12.117&{name}={digits}\n".encode()

    return form


def by_bytes(data: bytes) -> str:
    """As Linux v6.15 writes 7 bytes in 17 digits."""
    groups = (data[start : start + 7] for start in range(0, len(data), 7))
    digits = (0, 3, 5, 8, 10, 13, 15, 17)
    return "".join(f"{int.from_bytes(each, 'little'):0{digits[len(each)]}}" for each in groups)


def by_bits(data: bytes) -> str:
    """As Linux v6.12 writes 13 bits in 4 digits; too few digits are left for some last bits."""
    bits = "".join(f"{byte:08b}" for byte in data)
    value, size = 0, 0
    for group in (bits[start : start + 13] for start in range(0, len(bits), 13)):
        digits = max(1, (len(group) + 1) // 3)
        value, size = value * 10**digits + int(group, 2), size + digits
    return f"{value:0{size}}"


_PANIC = _panic_screen(by_bytes, "z")


def _linked(lines: Sequence[str]) -> bytes:
    """HTML, which has an address twice."""
    address = html.escape(_PANIC(lines).decode().strip())
    return f'<p>It panics:</p><a href="{address}">{address}</a>'.encode()


def _insights(lines: Sequence[str]) -> bytes:
    """``aws logs get-query-results``: rows of columns, each with its name."""
    fields = ("@timestamp", "2026-11-26 15:32:04.000"), ("@message", ""), ("@ptr", "CmEKJgoi")
    rows = [[{"field": name, "value": value or line} for name, value in fields] for line in lines]
    return json.dumps({"results": rows, "status": "Complete"}).encode()


def _proxmox(lines: Sequence[str]) -> bytes:
    rows = [{"n": number, "t": line} for number, line in enumerate(lines, 1)]
    return json.dumps({"total": len(rows), "data": rows}).encode()


def _wrapped_as(mark: str) -> Form:
    """Wrapped at spaces, with a mark before the rest of a line."""

    def form(lines: Sequence[str]) -> bytes:
        rows = (f"\n{mark}".join(textwrap.wrap(row, 78)) for row in text(lines).splitlines())
        return "\n".join(rows).encode()

    return form


def _outlook(lines: Sequence[str]) -> bytes:
    rows = (f"<p class=MsoNormal>{html.escape(row)}<o:p></o:p></p>" for row in lines)
    return "\n".join(rows).encode()


def _boxed(lines: Sequence[str]) -> bytes:
    return "\n".join(f"│ {row} │" for row in text(lines).splitlines()).encode()


COLLECTED: dict[str, Form] = {
    "/dev/kmsg, dictionaries": _dictionaries,
    "/dev/kmsg, escapes": _escapes,
    "fluentd": _in_json_lines("2026-11-26 15:32:04.000000000 +0000 kern: "),
    "LAVA": _in_json_lines("- "),
    "EC2": _ec2,
    "container, cut": _containers,
    "Markdown, escaped": _markdown,
    "Markdown, fenced and quoted": _fenced,
    "base64 in one line": lambda lines: base64.b64encode(dmesg(lines)),
    "base64 for URLs": lambda lines: base64.urlsafe_b64encode(gzip.compress(dmesg(lines))),
    "ABRT": lambda lines: b"backtrace:\n" + each(":{line}")(lines),
    "KTAP": each("# # [  {s}] {line}"),
    "CSV, more columns after it": each('"{line}","2026-11-26T15:32:04.000+0000",vm'),
    "CSV": each('"2026-11-26 15:32:04","host","{line}"'),
    "logfmt": each('ts=2026-11-26T15:32:04Z host=vm msg="{line}"'),
    "Android, processor and task": each("[  {s}] c3     71 {line}"),
    "Android, processor": each("[  {s}]@3 {line}"),
    "pod": each("[pod/dmesg-abc/dmesg] [  {s}] {line}"),
    "pod and container": each("node-1 dmesg [  {s}] {line}"),
    "continuous integration": each("build\tRun tests\t2026-11-26T15:32:04.1234567Z [  {s}] {line}"),
    "Open Build Service": each("[{n:>5}s] [  {s}] {line}"),
    "serial port of a cloud": each("2026 Nov 26 15:32:04 vm [  {s}] {line}"),
    "console server": each("[-- MARK -- Thu Nov 26 15:32:04 2026]\n[  {s}] {line}"),
    "milliseconds": each("1795793569123\t{line}"),
    "Fluent Bit": each('[0] kmsg: [1795793569.1, {{"priority"=>1, "msg"=>"{line}"}}]'),
    "Graylog": _records(lambda line: {"version": "1.1", "short_message": line}),
    "Graylog, cut": _records(lambda line: {"short_message": line[:64], "full_message": line}),
    "Graylog, empty": _records(lambda line: {"short_message": line, "full_message": ""}),
    "Splunk": _records(lambda line: {"result": {"_raw": "Nov 26 15:32:04 vm kernel: " + line}}),
    "Loki": _loki,
    "OpenTelemetry": _telemetry,
    "VictoriaLogs": _records(lambda line: {"_msg": line, "_time": "2026"}),
    "Azure": _records(lambda line: {"SyslogMessage": line, "Computer": "vm"}),
    "LogScale": _records(lambda line: {"@rawstring": line, "@host": "vm"}),
    "CloudWatch, Logs Insights": _insights,
    "Proxmox": _proxmox,
    "tracker": lambda lines: json.dumps(
        {
            "title": "oops",
            "description": dmesg(lines).decode(),
            "comments": [{"body": "Same here."}],
        }
    ).encode(),
    "Elastic, the event kept": _records(
        lambda line: {"message": line, "event": {"original": line, "kind": "event"}}
    ),
    "two loggers": each("[  {s}] {line}\nNov 26 15:32:04 vm kernel: [  {s}] {line}"),
    "systemd between": each(
        "[  {s}] {line}\n[  OK  ] Started vm.service - A unit.\n"
        "         Starting other.service - Another unit..."
    ),
    "journalctl -o export, text": _exported,
    "CSV, numbered": each('"{n}","vm","kernel","{line}"'),
    "YAML": lambda lines: b"dmesg:\n" + each('  - "[  {s}] {line}"')(lines),
    "a list of Python": lambda lines: repr(text(lines).splitlines()).encode(),
    "HTML, marked": _marked,
    "journalctl -o verbose, all fields": _verbose,
    "grep -n -A": _context,
    "dmesg, newest first": _newest_first(dmesg),
    "rsyslog, newest first": _newest_first(each("2026-11-26T15:32:04.{n:06}Z host kernel: {line}")),
    "JSON, newest first": lambda lines: _records(lambda line: {"textPayload": line})(
        text(lines).splitlines()[::-1]
    ),
    "diff": each("< {line}"),
    "one string, CRLF": lambda lines: text(lines, "\\r\\n").encode(),
    "a box": _boxed,
    "a box of double lines": each("║ [  {s}] {line} ║"),
    "Markdown, bold": each("**[  {s}] {line}**"),
    "patch that removes it": each("-[  {s}] {line}"),
    "addresses in capitals": lambda lines: re.sub(
        rb"\b[0-9a-f]{16}\b", lambda match: match[0].upper(), dmesg(lines)
    ),
    "a table of Markdown": each("| {n} | `[  {s}] {line}` |"),
    "SQL": each("INSERT INTO log VALUES ('2026-11-26', '[  {s}] {line}');"),
    "asciinema": _recorded,
    "asciinema, first version": _recorded_whole,
    "flow control": lambda lines: dmesg(lines).replace(b"\n", b"\x13\n\x11"),
    "wrapped by an editor": lambda lines: "\n".join(
        "↩\n".join(textwrap.wrap(row, 60)) for row in text(lines).splitlines()
    ).encode(),
    "hard spaces, encoded twice": lambda lines: text(lines).replace(" ", "\u00c2\u00a0").encode(),
    "ligatures": lambda lines: text(lines).replace("fl", "\ufb02").replace("ff", "\ufb00").encode(),
    "wide letters": lambda lines: "".join(
        chr(ord(each) + 0xFEE0) if "!" <= each <= "~" else each for each in text(lines)
    ).encode(),
    "mutt's pager": _wrapped_as("+"),
    "vim's showbreak": _wrapped_as("↪ "),
    "Outlook": _outlook,
    "XML": each("<event><host>vm</host><message>[  {s}] {line}</message></event>"),
    "soft hyphens": lambda lines: text(lines).replace("page", "pa\u00adge").encode(),
    "journalctl, Russian, in a letter": in_a_letter(each("июл 27 14:08:04 vm kernel: {line}")),
    "journalctl, Chinese, cut at 80": cut_at(each("8月 25 13:52:23 vm kernel: {line}"), 80),
    "dmesg -T, French, in a letter": in_a_letter(each("[jeu. nov. 26 15:32:49 2026] {line}")),
    "dmesg -e, Greek, in a letter": in_a_letter(each("[Δεκ26 15:32] {line}")),
    "pod, in a letter": in_a_letter(each("[pod/dmesg-abc/dmesg] [  {s}] {line}")),
    "CSV, fenced": lambda lines: (
        b"### Log\n\n```csv\n" + each('"2026-11-26","vm","{line}"')(lines) + b"```\n\nThanks\n"
    ),
    "cat -n, quoted": quoted_of(each("{n:6}\t{line}"), b"> "),
    "dmesg, cut at 80 and indented": quoted_of(cut_at(dmesg, 80), b"    "),
    "panic screen": _PANIC,
    "panic screen, before v6.15": _panic_screen(by_bits, "zl"),
    "panic screen, in a letter": in_a_letter(_PANIC),
    "panic screen, quoted and cut at 78": quoted_of(cut_at(_PANIC, 76), b"> "),
    "panic screen, quoted-printable": lambda lines: quopri.encodestring(_PANIC(lines)),
    "panic screen, HTML": _linked,
    "Windows-1252": lambda lines: b"\x93log\x94\n" + dmesg(lines).replace(b" ", b"\xa0"),
}
"""These forms by their names."""
