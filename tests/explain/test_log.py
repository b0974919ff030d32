# SPDX-License-Identifier: LGPL-2.1-or-later

"""The addresses and PFNs that the kernel's log names, and the log itself."""

from __future__ import annotations

from collections.abc import Iterable
from random import Random

import drgn
import pytest

from drgn_vmemmap import discover
from drgn_vmemmap.explain.log.collector import MENTIONS_LIMIT
from drgn_vmemmap.explain.log.mention import Mention
from drgn_vmemmap.explain.log.reader import find_mentions
from drgn_vmemmap.explain.messages.message import Kind
from drgn_vmemmap.explain.text.read import logical_lines, record_lines
from drgn_vmemmap.target import kernel_log
from drgn_vmemmap.target.kernel_log import KernelLog, read_kernel_log
from tests.support import open_vmcore
from tests.synthetic import printk
from tests.synthetic.printk import FIRST_ID, Ring

TEXTS = [f"record number {number} of this log".encode() for number in range(20)]
TEXT = b"\n".join(TEXTS)
LINES = [text.decode() for text in TEXTS]


# What lines name.


def mentions(log: Iterable[str]) -> list[Mention]:
    """All that a log names, any number that may be an address among it."""
    found = find_mentions(logical_lines("\n".join(log)), lambda address: bool(address >> 63))
    return found.named + found.others


def named(*log: str) -> set[tuple[int, Kind]]:
    return {(mention.value, mention.kind) for mention in mentions(log)}


def lines(text: bytes) -> list[str]:
    """Lines of the kernel's own log."""
    return [line.forms[0].text for line in record_lines([(text, None)])]


@pytest.mark.parametrize(
    "line",
    (
        "BUG: unable to handle page fault for address: ffffea0000010034",
        "BUG: kernel NULL pointer dereference, address: ffffea0000010034",
        "BUG: unable to handle kernel paging request at ffffea0000010034",
        "Oops: general protection fault, maybe for address 0xffffea0000010034: 0000 [#1] SMP NOPTI",
        "> [ 12.5] BUG: unable to handle page fault for address: ffffea0000010034",
    ),
)
def test_the_address_of_a_fault_is_named(line: str) -> None:
    assert named(line) == {(0xFFFFEA0000010034, Kind.FAULT)}


@pytest.mark.parametrize(
    "line",
    (
        "BUG: Bad page state in process cat  pfn:02c43",
        "page:00000000b1946ac5 refcount:0 mapcount:0 mapping:0 index:0x0 pfn:0x2c43",
        "page: refcount:0 mapcount:0 mapping:0000000000000000 index:0x0 pfn:0x2c43",
        "HugeTLB: unexpected refcount on PFN 11331",
        "Memory failure: 0x2c43: recovery action for huge page: Recovered",
        "Memory failure: 0x2c43 already hardware poisoned",
        "Soft offline: 0x2c43: page already poisoned",
        "soft offline: 0x2c43: thp split failed",
        "Unpoison: 0x2c43: software-unpoisoned page",
    ),
)
def test_the_pfn_of_a_bad_page_is_named(line: str) -> None:
    assert (0x2C43, Kind.PFN) in named(line)


@pytest.mark.parametrize(
    "line",
    (
        "last_pfn = 0x7ffe0 max_arch_pfn = 0x10000000000",
        "BUG: Bad page state: 12 messages suppressed",
        "Memory failure: mf_result=3 is not properly handled",
        "BUG: unable to handle kernel NULL pointer dereference at           (null)",
        "head: order:9 mapcount:0 entire_mapcount:0 nr_pages_mapped:0 pincount:0",
    ),
)
def test_what_is_no_page_is_not_named(line: str) -> None:
    assert named(line) == set()


def test_registers_are_named_as_mere_values() -> None:
    line = "RDX: ffffea0000010034 RSI: ff725593005ebcf0 RDI: ff725593005ebcdf"
    values = named(line)
    assert (0xFFFFEA0000010034, Kind.ADDRESS) in values
    assert not any(kind is Kind.FAULT for _, kind in values)


@pytest.mark.parametrize(
    "line",
    (
        ".compound_head = (unsigned long)18446719884453806081,",
        "compound_head = 18446719884453806081,",
    ),
)
def test_a_pointer_in_decimal_is_named_as_drgn_and_crash_write_it(line: str) -> None:
    assert named(line) == {(0xFFFFEA0000010001, Kind.ADDRESS)}


def test_a_longer_number_in_decimal_is_no_pointer() -> None:
    assert named("total 184467198844538060811 of 18446744073709551616") == set()


def test_what_is_named_often_is_named_once_with_its_first_line() -> None:
    fault = "BUG: unable to handle page fault for address: ffffea0000010034"
    (mention,) = mentions([fault, "CR2: ffffea0000010034", "RDX: ffffea0000010034"])
    assert (mention.line, mention.times, mention.is_fault) == (fault, 3, True)


def test_a_log_of_nothing_but_numbers_ends() -> None:
    log = (f"{number:016x}" for number in range(1 << 63, (1 << 63) + 10_000))
    assert len(mentions(log)) == 4096


def test_a_log_that_names_another_kernel_in_each_line_ends() -> None:
    faults = [f"unable to handle page fault for address: ffea{number:012x}" for number in range(99)]
    kernels = [f"CPU: 0 PID: 1 Comm: x Not tainted 6.{number}.0 #1" for number in range(5000)]
    found = find_mentions(logical_lines("\n".join([*faults, *kernels])))
    assert len(found.named) == 99
    assert len(found.boots) <= MENTIONS_LIMIT


def test_a_line_without_an_end_takes_no_time() -> None:
    assert mentions(["unable to handle general protection fault pfn: " * 20_000]) == []


@pytest.mark.parametrize("registers", (100, 200))
def test_a_line_longer_than_any_that_is_wrapped_is_not_joined(registers: int) -> None:
    # Each register quotes the lines that it is in: that of a joined line is a copy.
    rest = "fault for address: ffa09b70800bb174 " + "RAX: 0000000000000001 " * registers
    lines = list(logical_lines(f"BUG: unable to handle page\n{rest}"))
    assert len(lines) == (1 if registers == 100 else 2)


# What they say of it.


@pytest.mark.parametrize(
    ("said", "access"),
    (
        ("supervisor write access in kernel mode", "write"),
        ("supervisor read access in kernel mode", "read"),
        ("supervisor instruction fetch in kernel mode", "instruction fetch"),
        ("user write access in user mode", "write"),
    ),
)
def test_what_faulted_is_reported(said: str, access: str | None) -> None:
    (mention,) = mentions(
        [
            "BUG: unable to handle page fault for address: ffffea0000010034",
            f"#PF: {said}",
            "#PF: error_code(0x0003) - permissions violation",
        ]
    )
    assert mention.access == access
    assert mention.details == [f"#PF: {said}", "#PF: error_code(0x0003) - permissions violation"]


FAULT = "BUG: unable to handle page fault for address: ffffea0000010034"


@pytest.mark.parametrize(
    ("line", "release"),
    (
        (
            "CPU: 3 PID: 7 Comm: x Tainted: G        W         -------  ---"
            "  5.14.0-427.13.1.el9_4.x86_64 #1",
            "5.14.0-427.13.1.el9_4.x86_64",
        ),
        (
            "CPU: 3 PID: 71 Comm: (c) Tainted: G           OE    --------- -  - 4.18.0-477.el8 #1",
            "4.18.0-477.el8",
        ),
        ("CPU: 0 UID: 0 PID: 1 Comm: Tainted: G 9.9 Not tainted 7.1.0-rc3 #1", "7.1.0-rc3"),
        ("    RELEASE: 6.12.117+deb13-amd64", "6.12.117+deb13-amd64"),
    ),
)
def test_the_release_is_read_as_distributions_and_crash_write_it(line: str, release: str) -> None:
    (mention,) = mentions([FAULT, line])
    assert mention.boot.release == release


def test_functions_are_read_from_a_decoded_stack_trace() -> None:
    """As ``scripts/decode_stacktrace.sh`` writes it."""
    (mention,) = mentions(
        [
            FAULT,
            "RIP: 0010:isolate_migratepages_block (mm/compaction.c:1180 (discriminator 2)) ",
            " <TASK>",
            " ? __die_body (arch/x86/kernel/dumpstack.c:421) ",
            " compact_zone (mm/compaction.c:2513) ",
            " kthread (kernel/kthread.c:389) vfio_pci",
        ]
    )
    assert mention.functions == ["isolate_migratepages_block", "compact_zone", "kthread"]


def test_each_fault_has_its_own_lines() -> None:
    found = mentions(
        [
            "BUG: unable to handle page fault for address: ffffea0000010034",
            "#PF: supervisor write access in kernel mode",
            "CR2: ffffea0000010034",
            "BUG: unable to handle page fault for address: ffffea0000020034",
            "#PF: supervisor read access in kernel mode",
        ]
    )
    assert [mention.access for mention in found] == ["write", "read"]


def test_why_a_page_was_dumped_is_reported() -> None:
    (mention,) = mentions(
        [
            "BUG: Bad page state in process cat  pfn:02c43",
            "page: refcount:0 mapcount:0 mapping:0000 index:0x0 pfn:0x2c43",
            "flags: 0x17ffffc0000040(head|node=0|zone=2|lastcpupid=0x1fffff)",
            "page dumped because: corrupted mapping in tail page",
        ]
    )
    assert mention.times == 2
    assert mention.details[-1] == "page dumped because: corrupted mapping in tail page"


def test_a_line_far_below_says_nothing_of_it() -> None:
    fault = "BUG: unable to handle page fault for address: ffffea0000010034"
    (mention,) = mentions([fault, *["INFO: other"] * 100, "#PF: supervisor write access"])
    assert mention.details == []


def test_lines_that_repeat_themselves_do_not_pile_up() -> None:
    log = ["pfn:0x1", *(f"page dumped because: {number}" for number in range(1000))]
    (mention,) = mentions(log)
    assert len(mention.details) == 8


# Text.


def test_what_a_terminal_would_act_on_is_shown_as_an_escape() -> None:
    assert lines(b"a\x1b[31mb\nc\x07") == ["a\\x1b[31mb", "c\\x07"]


def test_text_that_is_no_utf_8_is_read() -> None:
    (line,) = lines(b"\xff Memory failure: 0x1: x")
    assert (1, Kind.PFN) in named(line)


# The dump's own log.


def test_the_log_is_read() -> None:
    log = read_kernel_log(Ring(TEXTS).prog)
    assert (log.text, log.problem) == (TEXT, None)


@pytest.mark.parametrize("distance", range(0, 20, 3))
def test_record_numbers_wrap_around(distance: int) -> None:
    """``DESC_ID`` has 62 bits, and the first ones are chosen to reach their end soon."""
    log = read_kernel_log(Ring(TEXTS, (1 << 62) - distance).prog)
    assert (log.text, log.problem) == (TEXT, None)


def test_a_record_of_several_lines_is_so_many_lines() -> None:
    log = read_kernel_log(Ring([b"one\ntwo", b"\x1bthree"]).prog)
    assert list(lines(log.text)) == ["one", "two", "\\x1bthree"]


def test_records_of_two_tasks_and_a_processor_are_told_apart_by_who_wrote_them() -> None:
    """The kernel notes it in each record, whether consoles show it (``CONFIG_PRINTK_CALLER``)."""
    callers = {0x2EC5: 71, 0x2EC6: 72, 0x2EC7: 1 << 31 | 3}
    dumps = [
        (
            f"BUG: Bad page state in process cat  pfn:{pfn:05x}",
            f"page: refcount:0 mapcount:0 mapping:0000000000000000 index:0x0 pfn:{pfn:#x}",
            f"raw: 000fffffc0000000 {pfn:016x} 0000000000000000 0000000000000000",
            "raw: 0000000000000000 0000000000000000 00000000ffffffff 0000000000000000",
            f"page dumped because: reason {caller}",
        )
        for pfn, caller in callers.items()
    ]
    texts = [line.encode() for alike in zip(*dumps) for line in alike]
    log = read_kernel_log(Ring(texts, callers=[*callers.values()] * 5).prog)
    assert [record.caller for record in log.records[:3]] == ["T71", "T72", "C3"]
    for mention in find_mentions(record_lines(log.records)).named:
        assert mention.words[1] == mention.value
        assert mention.details == [f"page dumped because: reason {callers[mention.value]}"]


def left(log: KernelLog) -> list[str]:
    """The lines; a byte of the number in front of a record may be taken for text."""
    return [line.lstrip("?") for line in lines(log.text)]


@pytest.mark.parametrize("head", (FIRST_ID - 1, 1 << 40, 1 << 61, FIRST_ID + 1 + (1 << 62)))
def test_of_a_ring_without_an_end_the_text_is_left(head: int) -> None:
    ring = Ring(TEXTS)
    ring.write(0x18, head)
    log = read_kernel_log(ring.prog)
    assert left(log) == LINES
    assert log.problem is not None and "do not fit" in log.problem


@pytest.mark.parametrize("page", (printk.RECORDS_AT, printk.INFOS_AT))
def test_of_records_that_are_not_in_the_dump_the_text_is_left(page: int) -> None:
    ring = Ring(TEXTS)
    ring.missing.add(page)
    log = read_kernel_log(ring.prog)
    assert left(log) == LINES
    assert log.problem is not None and "not in the dump" in log.problem


@pytest.mark.parametrize("page", (0, printk.TEXT_AT))
def test_of_a_log_that_is_not_in_the_dump_nothing_is_left(page: int) -> None:
    ring = Ring(TEXTS)
    ring.missing.add(page)
    log = read_kernel_log(ring.prog)
    assert log.text == b""
    assert log.problem is not None and "nothing of it is left" in log.problem


@pytest.mark.parametrize("size_bits", (0, 13, 40, 63, 1 << 63))
def test_a_size_that_cannot_be_ends(size_bits: int) -> None:
    ring = Ring(TEXTS)
    ring.missing.add(printk.RECORDS_AT)
    ring.write(0x28, size_bits)
    assert read_kernel_log(ring.prog).problem


@pytest.mark.parametrize("count_bits", (0, 21, 40, 1 << 40))
def test_a_number_of_records_that_cannot_be_ends(count_bits: int) -> None:
    ring = Ring(TEXTS)
    ring.write(0x00, count_bits)
    log = read_kernel_log(ring.prog)
    assert left(log) == LINES
    assert log.problem is not None and f"a ring of 2^{count_bits}" in log.problem


def test_lengths_that_lie_lead_nowhere() -> None:
    ring = Ring(TEXTS)
    for number in range(1 << printk.COUNT_BITS):
        ring.write(printk.INFOS_AT + number * 96 + 16, 0xFFFF, 2)
    assert read_kernel_log(ring.prog).problem is None


def test_records_of_more_text_than_a_log_can_have_are_not_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ring = Ring(TEXTS)
    for number in range(1 << printk.COUNT_BITS):
        ring.write(printk.INFOS_AT + number * 96 + 16, 0xFFFF, 2)
    monkeypatch.setattr(kernel_log, "_TEXT_LIMIT", 0xFFFF)
    log = read_kernel_log(ring.prog)
    assert left(log) == LINES
    assert log.problem is not None and "more than a log can have" in log.problem


def test_a_ring_of_missing_records_costs_no_more_than_it_holds() -> None:
    ring = Ring(TEXTS)
    ring.write(0x00, 20)
    ring.set_ids(FIRST_ID, FIRST_ID + (1 << 20) - 1)
    reads = []

    def read(address: int, count: int, offset: int, physical: bool) -> bytes:
        reads.append(address)
        raise drgn.FaultError("not in the dump", address)

    ring.prog.add_memory_segment(printk.ADDRESS + printk.INFOS_AT, 1 << 28, read, False)
    assert read_kernel_log(ring.prog).problem is not None
    assert len(reads) < 10_000


def test_a_kernel_without_a_ring_has_no_log() -> None:
    log = read_kernel_log(drgn.Program(drgn.Platform(drgn.Architecture.X86_64)))
    assert log.text == b""
    assert log.problem is not None and "prb" in log.problem


def test_a_dump_without_its_log_says_so() -> None:
    prog = open_vmcore("head-reuse")
    discover(prog)
    log = read_kernel_log(prog)
    assert log.text == b""
    assert log.problem is not None and "nothing of it is left" in log.problem


def test_a_ring_that_is_damaged_at_random_ends() -> None:
    random = Random(1)
    parts = (range(0x38), *(range(at, at + 0x300) for at in (printk.RECORDS_AT, printk.INFOS_AT)))
    for _ in range(300):
        ring = Ring(TEXTS)
        for _ in range(random.randint(1, 6)):
            ring.write(random.choice(random.choice(parts)), random.randrange(256), 1)
        log = read_kernel_log(ring.prog)
        assert log.problem or len(list(lines(log.text))) <= len(LINES)
