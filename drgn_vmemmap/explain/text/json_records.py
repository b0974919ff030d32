# SPDX-License-Identifier: LGPL-2.1-or-later

"""The messages in records of JSON, as journalctl, dmesg and collectors of logs write them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from drgn_vmemmap.explain.text.beginnings import begins_message
from drgn_vmemmap.explain.text.prefixes import without_prefix

_MESSAGE_KEYS = frozenset(
    (
        *("message", "msg", "log", "line", "text", "textpayload", "body", "content", "@message"),
        # EC2's console output, Graylog, Splunk, OpenTelemetry, Loki.
        *("output", "short_message", "full_message", "_raw", "stringvalue", "values"),
        # VictoriaLogs, Azure, LogScale, Elastic's event.
        *("_msg", "syslogmessage", "rawdata", "@rawstring", "original"),
    )
)

# What may stand before each object: a record separator, and the field name of server-sent events.
_FILLER = re.compile(r"(?:[\s,\x1e]|data:)*")
_BEGINS = re.compile(r"^(?:[ \t\x1e]|data:){0,8}[{\[]\s{0,64}[\"{]|\S \{\"", re.MULTILINE)

# How an object or an array begins; a time in brackets is no array.
_OPENING = re.compile(r"\{|\[\s{0,64}[\"{\[\]]")

# After this many pieces that are no JSON, all others are taken for plain text.
_FAILURES_LIMIT = 1000

_NODES_LIMIT = 1 << 22

# Characters that show whether a text is a message.
_SAMPLE = 256

# CONFIG_PRINTK_CALLER: a task or a processor.
_CALLER = re.compile(r"[TC]\d{1,10}")

# The machine that wrote a record: journald, and collectors of logs.
_HOST_KEYS = ("_HOSTNAME", "host", "hostname")
_HOST = re.compile(r"(?:[a-z]|\d{1,3}\.\d)[\w.-]{0,254}", re.IGNORECASE)

# A line that names its program, and the machine before it.
_NAMES_ITS_HOST = re.compile(r".{0,300}?\b(?:kernel|klogd)(?:\[\d+\])?:")


def json_messages(text: str) -> str | None:
    """The messages in a text that consists of JSON objects; ``None`` for any other text."""
    if not _BEGINS.search(text):
        return None
    lines: list[_Message] = []
    found = False
    for value in _values(text):
        if isinstance(value, _Plain):
            lines.append(_Message(value))
            continue
        messages = list(_messages(value))
        found |= bool(messages)
        lines += messages
    if not found:
        return None
    are_several = len({line.host for line in lines} - {""}) > 1
    return "\n".join(line.with_host() if are_several else line.text for line in lines)


class _Message(NamedTuple):
    """A message in a record."""

    text: str
    host: str = ""
    """The machine that wrote it; empty if the record does not say."""

    def with_host(self) -> str:
        """As syslog writes it, with the machine before each line that names none."""
        if not self.host:
            return self.text
        return "\n".join(
            line
            if not line.strip() or _NAMES_ITS_HOST.match(line)
            else f"{self.host} kernel: {line}"
            for line in self.text.split("\n")
        )


class _Plain(str):
    """A line that is no JSON."""


def _values(text: str) -> Iterator[Any]:
    """Decoded values, and the lines between them that are no JSON."""
    decoder = json.JSONDecoder()
    position, failures = 0, 0
    while (position := _after_filler(text, position)) < len(text):
        end = text.find("\n", position)
        end = len(text) if end < 0 else end
        opening = _opening(text, position, end) if failures < _FAILURES_LIMIT else -1
        if opening >= 0:
            try:
                value, after = decoder.raw_decode(text, opening)
            except (ValueError, RecursionError):
                failures += 1
            else:
                # What a collector of logs writes before an object is no message.
                is_record = opening == position or _has_message(value)
                yield value if is_record else _Plain(text[position:after])
                position = after
                continue
        yield _Plain(text[position:end])
        position = end


def _opening(text: str, position: int, end: int) -> int:
    """Where in the rest of a line an object or an array may begin; negative if nowhere."""
    if _OPENING.match(text, position):
        return position
    return text.find('{"', position, end)


def _has_message(value: Any) -> bool:
    return next(_messages(value), None) is not None


def _after_filler(text: str, position: int) -> int:
    filler = _FILLER.match(text, position)
    return position if filler is None else filler.end()


def _messages(value: Any) -> Iterator[_Message]:
    """The messages in a decoded value, in their order."""
    pending = [value]
    for _ in range(_NODES_LIMIT):
        if not pending:
            return
        node = pending.pop()
        if isinstance(node, dict):
            parts: list[Any] = []
            caller, host = _caller(node), _host(node)
            keys = _message_keys(node)
            for key, below in node.items():
                name = str(key).lower()
                if name in keys and not isinstance(below, dict):
                    yield from (_Message(caller + line, host) for line in _lines(below))
                elif isinstance(below, (dict, list)):
                    parts.append(below)
                elif isinstance(below, str) and name not in _MESSAGE_KEYS and _is_log(below):
                    yield _Message(caller + below, host)
            pending += reversed(parts)
        elif isinstance(node, list):
            pending += [below for below in reversed(node) if isinstance(below, (dict, list))]


def _is_log(text: str) -> bool:
    """
    Whether a text is a log, or a message of one, whatever its key is.

    Trackers, alerts and tools of monitoring name the field as they like.
    """
    if " " not in text:
        return False
    start = " ".join(text[:_SAMPLE].split())
    return "\n" in text.strip() or begins_message(without_prefix(start))


def _message_keys(record: dict[Any, Any]) -> frozenset[str]:
    """The keys of a record under which messages are."""
    # Of Graylog's two, the short one may be cut, and the full one may be empty.
    if record.get("full_message"):
        return _MESSAGE_KEYS - {"short_message"}
    # CloudWatch's Logs Insights: each column of a row is a record. Proxmox: number and text.
    if record.get("field") == "@message":
        return frozenset(("value",))
    if record.keys() == {"n", "t"}:
        return frozenset(("t",))
    return _MESSAGE_KEYS


def _caller(record: dict[Any, Any]) -> str:
    """The task or processor that wrote a record of ``dmesg --json``; empty if it does not say."""
    caller = record.get("caller")
    return f"[{caller}] " if isinstance(caller, str) and _CALLER.fullmatch(caller) else ""


def _host(record: dict[Any, Any]) -> str:
    """The machine that wrote a record; empty if it does not say."""
    found = (record[key] for key in _HOST_KEYS if key in record)
    names = (host.get("name") if isinstance(host, dict) else host for host in found)
    return next((name for name in names if isinstance(name, str) and _HOST.fullmatch(name)), "")


def _lines(message: Any) -> Iterator[str]:
    """A message: a string, the bytes of one, or several of them."""
    if isinstance(message, str):
        yield message
    elif isinstance(message, list):
        if message and all(isinstance(byte, int) and 0 <= byte < 256 for byte in message):
            yield bytes(message).decode("utf-8", "replace")
        else:
            for part in message:
                if isinstance(part, str) or (
                    isinstance(part, list) and part and isinstance(part[0], (int, str))
                ):
                    yield from _lines(part)
