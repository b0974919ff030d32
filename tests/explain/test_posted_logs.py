# SPDX-License-Identifier: LGPL-2.1-or-later

"""What logs have beside the oops: lines of drivers, other reports on it, and what people add."""

from __future__ import annotations

import json

import pytest

from drgn_vmemmap.explain.messages.message import Kind
from tests.explain.logs import BAD_PAGE, FAULT, OOPS
from tests.explain.reading import mentions_in, report_on


def test_a_message_of_the_kernel_is_read_in_a_field_of_json_of_any_name() -> None:
    line = (
        "Nov 26 15:32:04 vm kernel: Memory failure: 0x2ec5: recovery action for huge page: Failed"
    )
    record = json.dumps({"msg": "a node is broken", "detail": line, "job": "node exporter"})
    (mention,) = mentions_in([record]).named
    assert (mention.kind, mention.value) == (Kind.PFN, 0x2EC5)
    assert mention.line == line.partition("kernel: ")[2]


def test_a_drivers_version_is_no_first_line_of_a_boot() -> None:
    first = ("Linux version 6.12.117 (x) #1 SMP", "Command line: ro nokaslr")
    found = mentions_in([*first, "X25: Linux Version 0.2", "Memory failure: 0x2ec5: x", *OOPS])
    assert [boot.release for boot in found.boots if boot.release] == ["6.12.117"]
    assert all(mention.boot.memory_is_fixed for mention in found.named)


@pytest.mark.parametrize(
    ("bank", "named"),
    (
        # Bit 43 of the status: poison.
        ("Bank 1: bc800800060c0859", [0x3EC1FA40]),
        ("Bank 5: bea0000000000108", []),
    ),
)
@pytest.mark.parametrize("kind", ("Machine Check: 0", "Machine Check Exception: 4"))
def test_the_address_of_an_amd_bank_is_that_of_memory_only_if_poison_was_read(
    kind: str, bank: str, named: list[int]
) -> None:
    found = mentions_in(
        [
            f"mce: [Hardware Error]: CPU 6: {kind} {bank}",
            "mce: [Hardware Error]: RIP 10:<ffffffff8107a8f2> {native_safe_halt+0x12/0x20}",
            "mce: [Hardware Error]: TSC 9883098 ADDR 3ec1fa40 MISC d01a000000000000 IPID 100b0",
            "mce: [Hardware Error]: PROCESSOR 2:a20f12 TIME 1755581242 SOCKET 0 APIC c",
        ]
    )
    assert [each.value for each in found.named] == named


def test_a_log_whose_newest_line_is_the_first_keeps_the_lines_of_each_fault() -> None:
    other = FAULT + 0x1000
    rows = [
        f"Nov 26 15:32:{n:02} host kernel: {line}"
        for n, line in enumerate(
            [*OOPS, *(line.replace(f"{FAULT:x}", f"{other:x}") for line in OOPS[:3])]
        )
    ]
    header = "-- Journal begins at Thu 2026-11-26"
    for first, second in (
        mentions_in([header, *rows]).named,
        mentions_in([header, *reversed(rows)]).named,
    ):
        assert (first.value, first.access, first.functions[0]) == (FAULT, "write", OOPS[7][10:36])
        assert (second.value, second.access, second.walk) == (other, "write", None)


def test_logs_of_four_days_of_which_the_newest_is_the_first_keep_the_order_of_their_lines() -> None:
    faults = [FAULT + n * 0x1000 for n in range(4)]
    rows = [
        f"Nov {26 - day} {15 - day}:32:04 host kernel: [{9000 - 1000 * day}.{n:06}] {line}"
        for day, fault in enumerate(faults)
        for n, line in enumerate(line.replace(f"{FAULT:x}", f"{fault:x}") for line in OOPS)
    ]
    named = mentions_in(rows).named
    assert [each.value for each in named] == faults
    assert {(each.access, each.functions[0]) for each in named} == {("write", OOPS[7][10:36])}


def test_a_log_of_two_hosts_whose_newest_line_is_the_first_is_read_from_its_end() -> None:
    other = [line.replace(f"{FAULT:x}", f"{FAULT + 0x1000:x}") for line in OOPS]
    rows = [
        f"Nov 26 15:32:{n:02} {host} kernel: [{boot + n}.000001] {line}"
        for n, lines in enumerate(zip(OOPS, other))
        for host, boot, line in zip(("vm1", "vm2"), (100, 7000), lines)
    ]
    named = mentions_in(rows[::-1]).named
    assert sorted(each.value for each in named) == [FAULT, FAULT + 0x1000]
    assert {(each.access, each.functions[0]) for each in named} == {("write", OOPS[7][10:36])}


PROTECTION = (
    "Oops: general protection fault, probably for non-canonical address 0xdffffc0000000003: 0000 "
    "[#1] PREEMPT SMP KASAN NOPTI"
)
RANGE = "KASAN: null-ptr-deref in range [0x0000000000000018-0x000000000000001f]"


def test_registers_and_stack_are_those_of_the_fault_whose_range_kasan_names() -> None:
    fault, place = mentions_in([PROTECTION, RANGE, *OOPS[5:]]).named[:2]
    assert (fault.value, place.value) == (0xDFFFFC0000000003, 0x18)
    assert fault.functions[:2] == ["isolate_migratepages_block", "compact_zone"]
    assert fault.registers["CR4"] == 0x771EF0
    assert not place.functions and not place.registers


def test_a_range_without_its_fault_has_the_lines_after_it() -> None:
    (place,) = mentions_in([RANGE, *OOPS[5:13]]).named
    assert place.functions == ["isolate_migratepages_block"]


DUMPED = (
    "BUG: Bad page state in process kworker/0:3  pfn:02ec0",
    "page:ffa09b70800bb000 refcount:0 mapcount:0 mapping:0000000000000000 index:0x0 pfn:0x2ec0",
    *BAD_PAGE[3:],
)


def test_what_a_struct_page_holds_is_said_of_its_page() -> None:
    """Kernels before v6.9 log its address too, which ``no_hash_pointers`` leaves as it is."""
    page, address = mentions_in(DUMPED).named
    assert (page.kind, address.kind) == (Kind.PFN, Kind.ADDRESS)
    assert page.words[1] == 0xFFA09B70800B8001 and not address.words
    report = report_on(DUMPED)
    said = [text for _, text in report.accounts[0].statements]
    assert any("that of a tail (compound_head 0xffa09b70800b8001)" in text for text in said)
    assert any("its vmemmap was remapped and restored" in text for text in said)


@pytest.mark.parametrize("end", ("pmd:147f96067", "pmd:10a234067 pud:105678067"))
def test_a_table_after_a_bad_entry_is_not_what_it_maps_where_the_space_is_lost(end: str) -> None:
    line = "BUG: Bad page map in process ld.lld  pte:8000000002ec5025"
    for log in ((f"[177850.0] {line}", end), (f"[177850.0] {line}{end}",)):
        assert {each.value for each in mentions_in(log).named} <= {0x2EC5}


def test_a_pfn_does_not_go_on_in_what_a_console_puts_before_the_next_line() -> None:
    log = (
        "00016 page:00000000f7f02915 refcount:18 mapcount:0 mapping:0 index:0x20 pfn:0x108750",
        "00016 head:00000000f7f02915 order:4 compound_mapcount:0 compound_pincount:0",
        "00016 page dumped because: folio_seek_hole_data",
    )
    assert [each.value for each in mentions_in(log).named] == [0x108750]


MAIL = "Subject: Re: BUG: unable to handle page fault for address: {}\nMessage-ID: <1@x>\n\n{}\n"
FIRST_LINE = "Linux version 6.11.0 (x) #1"


def test_a_subject_that_repeats_a_fault_is_no_fault_of_another_boot() -> None:
    body = "\n".join((FIRST_LINE, *OOPS[:4]))
    (fault,) = mentions_in([MAIL.format(f"{FAULT:016x}", body)]).named
    assert (fault.value, fault.access, fault.boot.release) == (FAULT, "write", "6.11.0")


def test_a_fault_that_only_the_subject_names_is_named() -> None:
    (fault,) = mentions_in([MAIL.format(f"{FAULT:016x}", FIRST_LINE)]).named
    assert fault.value == FAULT


def test_a_subject_without_an_address_is_no_part_of_an_oops() -> None:
    found = mentions_in([MAIL.format("- #PF: supervisor read access", "\n".join(OOPS[:4]))])
    assert (len(found.named), found.unnamed) == (1, 0)
