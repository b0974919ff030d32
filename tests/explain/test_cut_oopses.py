# SPDX-License-Identifier: LGPL-2.1-or-later

"""Parts of an oops, and oopses of several tasks in one log."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Callable

import pytest

from drgn_vmemmap.explain.dump.explained_log import explain_log
from drgn_vmemmap.explain.dump.explainer import Explainer
from drgn_vmemmap.explain.log.boot import Boot
from drgn_vmemmap.explain.log.mention import Mention, Mentions
from drgn_vmemmap.explain.log.reader import find_mentions
from drgn_vmemmap.explain.messages.message import Kind
from drgn_vmemmap.explain.text.read import read_text
from drgn_vmemmap.explain.text_only.report import text_only
from drgn_vmemmap.explain.text_only.statements import Certainty
from drgn_vmemmap.output.explanation import text
from tests.explain.logs import FAULT, OOPS, WALK
from tests.support import COMMAND, open_vmcore, run

FRAME, OTHER_FAULT = 0x35F9B, 0xFFA09B70800BC234
WALK_LINE = OOPS[3]
REGISTERS = OOPS[7:14]


def read(lines: Sequence[str]) -> Mentions:
    return find_mentions(read_text("\n".join(lines).encode()).lines)


def only(lines: Sequence[str]) -> Mention:
    (mention,) = read(lines).named
    return mention


def said(lines: Sequence[str], certainty: Certainty) -> str:
    (account,) = text_only(read_text("\n".join(lines).encode()).lines).accounts
    return "\n".join(text for how, text in account.statements if how is certainty)


# Parts.


@pytest.mark.parametrize("first", range(1, 4))
def test_an_oops_without_its_first_lines_has_its_address_in_cr2(first: int) -> None:
    mention = only(OOPS[first:])
    assert (mention.kind, mention.value) == (Kind.FAULT, FAULT)
    assert mention.access == "write"
    assert mention.walk is not None and mention.walk.entries == WALK
    assert mention.functions[:2] == ["isolate_migratepages_block", "compact_zone"]
    assert "CR2 names the address of the page fault" in said(OOPS[first:], Certainty.CERTAIN)


def test_registers_alone_do_not_prove_that_it_was_a_page_fault() -> None:
    mention = only(REGISTERS)
    assert (mention.kind, mention.value) == (Kind.ADDRESS, FAULT)
    assert "if this is what faulted" in said(REGISTERS, Certainty.UNKNOWN)


@pytest.mark.parametrize(
    "line",
    (
        "WARNING: CPU: 0 PID: 71 at mm/page_alloc.c:123 free_unref_page+0x1/0x2",
        "kernel BUG at mm/hugetlb.c:1234!",
        "Oops: general protection fault: 0000 [#1] SMP",
        "NMI backtrace for cpu 1",
    ),
)
def test_registers_of_what_was_no_page_fault_name_no_address(line: str) -> None:
    assert read([line, "RIP: 0010:foo+0x1/0x2", *REGISTERS]).named == []


@pytest.mark.parametrize(
    "line",
    (
        "Oops: Total 1 times",
        "Command line: ro softlockup_panic=1",
        "traps: foo[9] general protection fault ip:7f8a01 sp:7ffd02 error:0 in libc.so.6[7f0000]",
    ),
)
@pytest.mark.parametrize("first", (3, 7))
def test_a_line_that_begins_no_dump_hides_no_fault_after_it(line: str, first: int) -> None:
    """The first is of pstore's zones, on a block device."""
    (mention,) = read([line, *OOPS[first:]]).named
    assert mention.value == FAULT
    assert mention.functions[0] == "isolate_migratepages_block"


def test_a_walk_after_another_dump_begins_a_fault() -> None:
    warning = ("WARNING: CPU: 0 PID: 71 at mm/page_alloc.c:123 free_unref_page+0x1/0x2", *REGISTERS)
    mention = only([*warning, *OOPS[3:]])
    assert (mention.kind, mention.value, mention.access) == (Kind.FAULT, FAULT, "write")


def test_an_address_of_user_space_in_cr2_is_not_named() -> None:
    assert (
        read(["RIP: 0010:foo+0x1/0x2", "CR2: 00007fe300000000 CR3: 0000000036022000"]).named == []
    )


def test_a_page_fault_without_its_first_line_may_be_one_of_low_addresses() -> None:
    null = [line.replace(f"{FAULT:016x}", f"{8:016x}") for line in OOPS[1:]]
    mention = only(["BUG: kernel NULL pointer derefer", *null])
    assert (mention.kind, mention.value, mention.access) == (Kind.FAULT, 8, "write")


def test_a_walk_alone_names_the_frame_that_it_leads_to() -> None:
    mention = only([WALK_LINE])
    assert (mention.kind, mention.value, mention.line) == (Kind.PFN, FRAME, WALK_LINE)
    assert "a fault met a PTE that maps this frame read-only" in said(
        [WALK_LINE], Certainty.CERTAIN
    )
    assert "the address of that fault" in said([WALK_LINE], Certainty.UNKNOWN)


def test_the_frame_of_a_walk_alone_is_that_of_the_folio_that_shares_it() -> None:
    prog = open_vmcore("head-reuse")
    explains, boot = Explainer.of_program(prog), Boot.of_program(prog)
    found = explain_log(explains, read_text(WALK_LINE.encode()).lines, boot)
    (explanation,) = found.explanations
    assert "backs vmemmap pages 0-7 of folio 0x2e00" in text(explanation)
    assert not found.incomplete


def test_a_fault_without_any_address_is_counted_with_exit_code_3() -> None:
    lines = "\n".join(OOPS[1:3])
    assert read(OOPS[1:3]).unnamed == 1
    done = run(COMMAND, "explain", "--stdin", input=lines)
    assert done.returncode == 3
    assert "1 page fault was not explained: the lines with its address" in done.stdout


@pytest.mark.parametrize("digits", ("", " ", " ffa09b7080"))
def test_a_fault_whose_address_is_cut_off_is_counted_unless_cr2_has_it(digits: str) -> None:
    cut = OOPS[0].partition(" ffa0")[0] + digits
    assert (read([cut]).named, read([cut]).unnamed) == ([], 1)
    mention = only([cut, *REGISTERS])
    assert (mention.kind, mention.value) == (Kind.FAULT, FAULT)


@pytest.mark.parametrize("words", ("unable to handle page fault for", "NULL pointer dereference,"))
def test_an_address_is_read_without_the_space_before_it(words: str) -> None:
    mention = only([f"BUG: {words} address:{FAULT:016x}", *OOPS[1:4]])
    assert (mention.kind, mention.value, mention.access) == (Kind.FAULT, FAULT, "write")


# Several.


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
    one, other = read([prefix + line for line in _interleaved(callers)]).named
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
    one, other = read(lines).named
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
    one, other = read([json.dumps(record(host, line)) for host, line in pairs]).named
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
    mention = only(rows)
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


def test_an_oops_that_lost_its_first_lines_is_no_part_of_one_far_above() -> None:
    other = FAULT + 0x1000
    second = [line.replace(f"{FAULT:016x}", f"{other:016x}") for line in OOPS[1:]]
    found = read([*OOPS, *["[  1.5] usb 1-1: new device"] * 130, *second])
    assert [mention.value for mention in found.named] == [FAULT, other]
    first, fault = found.named
    assert (first.access, fault.access) == ("write", "write")
    assert fault.walk is not None and fault.message is not None and fault.message.name == "CR2"


def test_a_line_that_is_too_far_from_its_fault_is_no_fault_of_its_own() -> None:
    found = read([*OOPS, *["[  1.5] usb 1-1: new device"] * 40, OOPS[1]])
    assert ([mention.value for mention in found.named], found.unnamed) == ([FAULT], 0)


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
    one, other = read([log]).named
    assert (one.value, one.boot.release, one.access) == (FAULT, "6.12.117", "write")
    assert (other.value, other.boot.release, other.access) == (OTHER_FAULT, "6.12.118", "write")
    assert one.functions[:2] == ["isolate_migratepages_block", "compact_zone"]
    assert other.functions[:2] == ["foo", "compact_zone"]


def test_the_first_struct_page_of_a_vmemmap_is_that_of_pfn_0() -> None:
    boot = Boot(vmemmap=0xFFFFEA0000000000)
    assert boot.pfn_at(0xFFFFEA0000000000) == 0
    assert boot.pfn_at(0xFFFFEA0000000000 - 64) is None
