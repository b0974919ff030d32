# SPDX-License-Identifier: LGPL-2.1-or-later

"""Several oopses in one log, of tasks, hosts or boots: each keeps its lines."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Callable

import pytest

from drgn_vmemmap.explain.text.read import read_text
from tests.explain.logs import FAULT, OOPS, WALK
from tests.explain.reading import mentions_in

OTHER_FAULT = 0xFFA09B70800BC234

OTHER_BOOT = tuple(
    line.replace(f"{FAULT:x}", f"{OTHER_FAULT:x}")
    .replace("6.12.117", "6.12.118")
    .replace("isolate_migratepages_block", "foo")
    for line in OOPS
)


def _interleaved(callers: Sequence[str]) -> list[str]:
    """Two oopses, line by line in turn, each line with its caller."""
    other = [line.replace(f"{FAULT:x}", f"{OTHER_FAULT:x}") for line in OOPS]
    other[1:4] = [
        "#PF: supervisor read access in kernel mode",
        "#PF: error_code(0x0000) - x",
        "PGD 0",
    ]
    return [
        f"[  100.{n:06}][{caller:>7}] {line}"
        for n, pair in enumerate(zip(OOPS, other))
        for caller, line in zip(callers, pair)
    ]


@pytest.mark.parametrize("prefix", ("", "Nov 26 15:32:04 host kernel: ", "vm1: "))
@pytest.mark.parametrize("callers", (("T71", "T72"), ("C0", "C1"), ("T71", "C0")))
def test_oopses_that_are_interleaved_keep_their_lines_by_caller(
    callers: Sequence[str], prefix: str
) -> None:
    one, other = mentions_in([prefix + line for line in _interleaved(callers)]).named
    assert (one.value, one.access, one.error_code) == (FAULT, "write", 3)
    assert one.walk is not None and one.walk.entries == WALK
    assert (other.value, other.access, other.error_code) == (OTHER_FAULT, "read", 0)
    assert other.walk is not None and other.walk.entries == (("PGD", 0),)


@pytest.mark.parametrize("hosts", (("vm1", "vm2"), ("a.example", "b"), ("10.0.0.1", "10.0.0.2")))
def test_oopses_of_two_hosts_in_one_log_keep_their_lines(hosts: Sequence[str]) -> None:
    lines = [
        f"2026-11-26T15:32:04+01:00 {host} kernel: {line}"
        for pair in zip(OOPS, OTHER_BOOT)
        for host, line in zip(hosts, pair)
    ]
    one, other = mentions_in(lines).named
    assert (one.value, one.functions[0]) == (FAULT, "isolate_migratepages_block")
    assert (other.value, other.functions[0]) == (OTHER_FAULT, "foo")
    assert one.access == other.access == "write"
    assert (one.registers["CR2"], other.registers["CR2"]) == (FAULT, OTHER_FAULT)


@pytest.mark.parametrize(
    "record",
    (
        lambda host, line: {"_HOSTNAME": host, "MESSAGE": line},
        lambda host, line: {"_source": {"host": {"name": host}, "message": line}},
        lambda host, line: {
            "host": "relay",
            "message": f"<4>Nov 26 15:32:04 {host} kernel: {line}",
        },
    ),
)
def test_oopses_of_two_hosts_in_json_keep_their_lines(
    record: Callable[[str, str], dict[str, object]],
) -> None:
    pairs = (pair for each in zip(OOPS, OTHER_BOOT) for pair in zip(("vm1", "10.0.0.2"), each))
    one, other = mentions_in([json.dumps(record(host, line)) for host, line in pairs]).named
    assert (one.value, one.functions[0]) == (FAULT, "isolate_migratepages_block")
    assert (other.value, other.functions[0]) == (OTHER_FAULT, "foo")
    assert (one.registers["CR2"], other.registers["CR2"]) == (FAULT, OTHER_FAULT)


@pytest.mark.parametrize(
    "words",
    (
        ("ALERT", "kern.err", "warning", "info"),
        ("user.alert", "user.warn", "local0.info", "panic"),
        ("fatal", "SEVERE", "critical", "notice"),
        ("E", "W", "I", "D"),
        ("cpu0", "cpu1", "CPU2", "cpu13"),
        ("731.100", "731.101", "731.103", "31.104"),
        ("731.100001", "731.100002", "731.100003", "731.100004"),
    ),
)
def test_a_level_a_processor_or_a_time_in_the_place_of_a_host_is_none(words: Sequence[str]) -> None:
    rows = [f"2026-11-26T15:32:04Z {words[n % 4]} kernel: {line}" for n, line in enumerate(OOPS)]
    (mention,) = mentions_in(rows).named
    assert (mention.access, mention.functions[0]) == ("write", "isolate_migratepages_block")


@pytest.mark.parametrize(
    "form", ("6,{n},100{n},-,caller={c};{line}", "[  1.{n:06}] [{c:>6}] {line}")
)
def test_a_caller_is_read_in_each_form(form: str) -> None:
    rows = [form.format(n=n, c="T71", line=line) for n, line in enumerate(OOPS)]
    assert {line.caller for line in read_text("\n".join(rows).encode()).lines} == {"T71"}


def test_a_caller_is_read_in_json() -> None:
    """``dmesg --json`` of util-linux 2.40 and later."""
    records = [{"pri": 1, "caller": f"T{number}", "msg": OOPS[0]} for number in (71, 72)]
    log = json.dumps({"dmesg": [*records, {"pri": 1, "caller": "Mrs. T1", "msg": OOPS[1]}]})
    callers = [line.caller for line in read_text(log.encode()).lines]
    assert callers == ["T71", "T72", None]


def _stored(kind: str, lines: Sequence[str]) -> str:
    """Parts of what a boot first stores in pstore."""
    log = "".join(f"<1>[  100.{n:06}] {line}\n" for n, line in enumerate(lines))
    parts = [log[start : start + 300] for start in range(0, len(log), 300)]
    return "".join(f"{kind}#1 Part{n}\n{part}\n" for n, part in enumerate(reversed(parts), 1))


def _sent(first: int, lines: Sequence[str]) -> str:
    """Fragments that a boot sends by netconsole from a time on, in microseconds."""
    return "".join(
        f"6,{n},{first + n},-,ncfrag={start}/{len(line)};{line[start : start + 40]}\n"
        for n, line in enumerate(lines)
        for start in range(0, len(line), 40)
    )


@pytest.mark.parametrize(
    "log",
    (
        _stored("Oops", OOPS) + _stored("Oops", OTHER_BOOT),
        _stored("Oops", OOPS) + _stored("Panic", OTHER_BOOT),
        _sent(1004123, OOPS) + _sent(2000555, OTHER_BOOT),
    ),
    ids=("pstore", "pstore, of two kinds", "netconsole"),
)
def test_pieces_of_two_boots_are_not_mixed_although_they_have_the_same_numbers(log: str) -> None:
    one, other = mentions_in([log]).named
    assert (one.value, one.boot.release, one.access) == (FAULT, "6.12.117", "write")
    assert (other.value, other.boot.release, other.access) == (OTHER_FAULT, "6.12.118", "write")
    assert one.functions[:2] == ["isolate_migratepages_block", "compact_zone"]
    assert other.functions[:2] == ["foo", "compact_zone"]
