# SPDX-License-Identifier: LGPL-2.1-or-later

"""Each of the kernel's wordings that names a page."""

from __future__ import annotations

from typing import Any, Callable

import pytest

from drgn_vmemmap.explain.log.reader import find_mentions
from drgn_vmemmap.explain.messages.message import Kind
from drgn_vmemmap.explain.messages.table import ANY_PFN, MESSAGES
from drgn_vmemmap.explain.messages.versions import OLDER, READ
from drgn_vmemmap.explain.text.read import logical_lines, read_text
from tests.explain.forms import FORMS
from tests.explain.wordings import WORDINGS, Wording

Record = Callable[[str, Any], None]

FORM_NAMES = ("dmesg -x", "journalctl -o json, bytes", "quoted, tabs", "mail, base64", "HTML")


def versions(kernels: str) -> tuple[str, ...]:
    """The versions in a range such as ``v5.14 to v6.10``; none for :data:`OLDER`."""
    if kernels == OLDER:
        return ()
    first, _, last = kernels.partition(" to ")
    return READ[READ.index(first) : READ.index(last or first) + 1]


@pytest.mark.parametrize("wording", WORDINGS, ids=lambda wording: wording.line)
def test_a_message_names_its_page(wording: Wording) -> None:
    found = find_mentions(logical_lines(wording.line)).named
    assert tuple((each.kind, each.value) for each in found) == wording.named
    assert {each.message.name for each in found if each.message} <= {wording.name}


def test_each_entry_of_the_table_has_a_message() -> None:
    tested = {wording.name for wording in WORDINGS}
    assert tested == {message.name for message in (*MESSAGES, ANY_PFN)}


def test_each_entry_of_the_table_is_of_kernels_and_a_function() -> None:
    for message in MESSAGES:
        assert set(versions(message.kernels)) <= set(READ)
        assert message.source.endswith((".c", ".h"))
        assert message.keyword == message.keyword.lower()


@pytest.mark.parametrize("wording", WORDINGS, ids=lambda wording: wording.line)
def test_a_message_does_not_continue_the_line_before_it(wording: Wording) -> None:
    lines = [line.forms for line in logical_lines(f"usb 1-1: new device\n{wording.line}\n")]
    assert len(lines) == (1 if wording.name == "PFN" else 2)


LONGER = "systemd-journald[312]: Data hash table of /run/log/journal/" + "0123456789abcdef" * 9


@pytest.mark.parametrize("after", ("e1000e: eth0 NIC Link is Up", "Added 1 device", "cec: on"))
@pytest.mark.parametrize("wording", WORDINGS, ids=lambda wording: wording.line)
def test_a_message_ends_where_its_line_does_if_others_are_longer(
    wording: Wording, after: str
) -> None:
    """What follows in a log without times may begin with what looks like a number in hex."""
    log = "\n".join((LONGER, wording.line, after, LONGER))
    found = find_mentions(logical_lines(log)).named
    assert tuple((each.kind, each.value) for each in found) == wording.named


def test_a_pfn_is_cut_where_no_line_of_its_paragraph_is_longer() -> None:
    halves = ("BUG: Bad page state in process kswapd0  pfn:02e", "c5")
    (found,) = find_mentions(logical_lines("\n".join((LONGER, "", *halves, "", LONGER)))).named
    assert found.value == 0x2EC5


def test_a_line_that_was_joined_in_decoding_is_no_margin() -> None:
    """A line that was cut after an equals sign looks like quoted-printable, and is joined."""
    log = (
        "[  100.000018] Workqueue: events once_deferred and so much more and so much more",
        "[  100.000020] BUG: Bad page state in process kworker/0:3  pfn:0",
        "2ec0",
        "[  100.000023] flags: 0x17ffffc0000000(node=0|zone=2|lastcpupid=",
        "0x1fffff)",
    )
    (found,) = find_mentions(logical_lines("\n".join(log))).named
    assert found.value == 0x2EC0


@pytest.mark.parametrize("form", ("bare", "dmesg", "wrapped at 72", "cut at 64"))
@pytest.mark.parametrize("level", ("pte", "pmd"))
def test_tables_that_lead_to_a_bad_entry_are_not_what_it_maps(level: str, form: str) -> None:
    """Since v6.18, ``__print_bad_page_map_pgtable()`` logs them after it."""
    log = (
        f"BUG: Bad page map in process qemu  {level}:8000000002ec5867",
        "pgd:10a234067 p4d:10a234067 pud:105678067 pmd:112345067",
        "addr:00007f0000000000 vm_flags:08100073 anon_vma:0000000000000000",
    )
    named = find_mentions(read_text(FORMS[form](log)).lines).named
    assert [(each.kind, each.value) for each in named] == [(Kind.PFN, 0x2EC5)]


@pytest.mark.parametrize("wording", WORDINGS, ids=lambda wording: wording.line)
def test_a_line_is_of_kernels_that_have_the_entry(wording: Wording) -> None:
    (message,) = (each for each in (*MESSAGES, ANY_PFN) if each.name == wording.name)
    assert set(versions(wording.kernels or message.kernels)) <= set(versions(message.kernels))


@pytest.mark.parametrize("form", FORM_NAMES)
@pytest.mark.parametrize("wording", WORDINGS, ids=lambda wording: wording.line)
def test_a_message_names_its_page_in_other_forms(
    wording: Wording, form: str, record_property: Record
) -> None:
    found = find_mentions(read_text(FORMS[form]((wording.line,))).lines).named
    assert tuple((each.kind, each.value) for each in found) == wording.named
    record_property("wording", (wording.name, form))


@pytest.mark.parametrize(
    "line",
    (
        "last_pfn = 0x7ffe0 max_arch_pfn = 0x10000000000",
        "BUG: Bad page state: 12 messages suppressed",
        "BUG: Bad page map: 12 messages suppressed",
        "Memory failure: mf_result=3 is not properly handled",
        "BUG: unable to handle kernel NULL pointer dereference at           (null)",
        "head: order:9 mapcount:0 entire_mapcount:0 nr_pages_mapped:0 pincount:0",
        "{1}[Hardware Error]: physical_address_mask: 0xffffffffffffffc0",
        "mce: [Hardware Error]: CPU 0: Machine Check Exception: 5 Bank 7: be00000000010091",
        "mce: [Hardware Error]: TSC 0 ADDR 1f7ff8040 SYND 5b24000 IPID 9600050f00",
        "mce: [Hardware Error]: TSC 0 ADDR 1ffffa16b6b4a MISC d012000100000000 "
        "SYND 4d000000 IPID 500b000000000",
        "mce: [Hardware Error]: TSC 0 ADDR e1101add1e550012 MISC 86",
        "mce: [Hardware Error]: TSC 0 ADDR 7f5e3c0 MISC 46",
        "mce: [Hardware Error]: TSC 0 ADDR 7f5e3c0 MISC 1c6",
        "mce: [Hardware Error]: TSC 0 ADDR 7f5e3c0 MISC cafebeef",
        "[Hardware Error]: Error Addr: 0x00000001f7ff8040",
        "EDAC MC0: 1 CE Cannot decode normalized address on mc#0csrow#3channel#0 (csrow:3 "
        "channel:0 page:0x0 offset:0x0 grain:64 syndrome:0x1)",
        "Use-after-free read at 0x00000000b1946ac5 (in kfence-#42):",
        "page:00000000b1946ac5 is uninitialized and poisoned",
        "HugeTLB: registered 2.00 MiB page size, pre-allocated 0 pages",
        "Soft offline: disabled by /proc/sys/vm/enable_soft_offline",
    ),
)
def test_a_message_that_names_no_page_names_none(line: str) -> None:
    assert find_mentions(logical_lines(line)).named == []


@pytest.mark.parametrize(
    ("line", "named", "dropped"),
    (
        ("my_driver: cannot pin pfn=11973", [], 1),
        ("my_driver: cannot pin pfn: 2ec5", [0x2EC5], 0),
        ("my_driver: cannot pin pfn:02345", [0x2345], 0),
        ("my_driver: cannot pin pfn=0x11973", [0x11973], 0),
        ("BUG: Bad page state in process cat  pfn:11973", [0x11973], 0),
    ),
)
def test_a_pfn_that_may_be_in_decimal_is_counted_and_not_guessed(
    line: str, named: list[int], dropped: int
) -> None:
    found = find_mentions(logical_lines(line))
    assert ([each.value for each in found.named], found.dropped) == (named, dropped)


@pytest.mark.parametrize("kind", ("", ", ipid= 1000b000000000"))
@pytest.mark.parametrize("form", (*(f"cut at {n}" for n in (30, 64, 72)), "wrapped at 72"))
def test_a_machine_check_of_rasdaemon_that_is_cut_names_no_other_address(
    kind: str, form: str
) -> None:
    """Without poison, a bank of AMD's processors has no address of memory."""
    log = (
        "mce_record: 2026-11-26 15:32:04 +0000 bank=0, status= bc00000001010135, Uncorrected "
        f"error, cpu= 0, addr= 2ec5040, synd= 4d000000{kind}, mcgstatus=0, apicid= 0",
    )
    named = [each.value for each in find_mentions(read_text(FORMS[form](log)).lines).named]
    assert named == ([] if kind else [0x2EC5040])


def test_the_number_of_an_entry_is_no_pfn_if_it_maps_no_page() -> None:
    swap = "BUG: Bad page map in process x  pte:7fffffff7fffe6a0 pmd:12345067"
    assert all(each.kind is not Kind.PFN for each in find_mentions(logical_lines(swap)).named)
