# SPDX-License-Identifier: LGPL-2.1-or-later

"""What a log proves without a dump, and that nothing more is said for certain."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence

import pytest

from drgn_vmemmap.explain.text_only.report import Account, TextReport
from drgn_vmemmap.explain.text_only.statements import Certainty
from drgn_vmemmap.output.text_only import render
from tests.explain.forms import FORMS
from tests.explain.logs import BAD_PAGE, FAULT, LOG, OOPS
from tests.explain.reading import report_on
from tests.support import COMMAND, answer, run

NOT_MOVED = "Kernel Offset: disabled"
MOVED = "Kernel Offset: 0x1c00000 from 0xffffffff81000000"


def piped(data: bytes, *options: str) -> subprocess.CompletedProcess[str]:
    """Run the command without a target."""
    return answer("explain", "--stdin", *options, stdin=data)


def account(*lines: str) -> Account:
    return report_on(lines).accounts[0]


def said(of: Account, certainty: Certainty) -> str:
    return "\n".join(text for how, text in of.statements if how is certainty)


def fault_at(address: int, *rest: str, access: str = "write", code: int = 3) -> Account:
    return account(
        f"BUG: unable to handle page fault for address: {address:016x}",
        f"#PF: supervisor {access} access in kernel mode",
        f"#PF: error_code(0x{code:04x}) - x",
        *rest,
    )


def four_levels(pte: int) -> str:
    return f"PGD 7fcb0067 P4D 7fcb0067 PUD 7fcae067 PMD 2420067 PTE {pte:x}"


READ_ONLY, WRITABLE = 0x8000000035F9B121, 0x8000000035F9B163


def test_what_the_entries_say_is_certain_and_where_it_was_is_likely() -> None:
    of = account(*OOPS)
    certain, likely = said(of, Certainty.CERTAIN), said(of, Certainty.LIKELY)
    assert (
        "the access was a write: the page was mapped, and its mapping forbade the access" in certain
    )
    assert "mapped read-only by a PTE, to frame 0x35f9b" in certain
    assert "isolate_migratepages_block() was on the stack" in certain
    assert "it is in the vmemmap" in likely and "RBX points to the start of a struct page" in likely
    assert "a page of the vmemmap that HVO shares" in likely
    assert "byte 52 of a struct page is _refcount" in likely
    assert "PFN ends in 0x002ec5" in likely and "vmemmap page 3" in likely
    assert "the PFN" in said(of, Certainty.UNKNOWN)


def test_a_struct_page_with_its_pfn_proves_where_the_vmemmap_is() -> None:
    page = "page:ffa09b70800bb100 refcount:0 mapcount:0 mapping:0 index:0x0 pfn:0x2ec4"
    certain = said(account(*OOPS, page), Certainty.CERTAIN)
    assert "it is in the vmemmap, which begins at 0xffa09b7080000000" in certain
    assert "the struct page of PFN 0x2ec5" in certain
    assert "that HVO shares" in certain


def test_a_dumped_tail_with_a_pointer_to_its_head_proves_it_too() -> None:
    certain = said(account(*OOPS, *BAD_PAGE), Certainty.CERTAIN)
    assert "the struct page of PFN 0x2ec5" in certain


def test_a_hashed_pointer_proves_nothing() -> None:
    page = "page:00000000800bb100 refcount:0 mapcount:0 mapping:0 index:0x0 pfn:0x2ec4"
    assert "which begins at" not in said(account(*OOPS, page), Certainty.CERTAIN)


def test_a_pointer_that_leads_to_no_aligned_base_proves_nothing() -> None:
    page = "page:ffa09b70800bb140 refcount:0 mapcount:0 mapping:0 index:0x0 pfn:0x2ec4"
    assert "which begins at" not in said(account(*OOPS, page), Certainty.CERTAIN)


@pytest.mark.parametrize("how", (NOT_MOVED, "Command line: ro nokaslr quiet"))
def test_without_kaslr_the_default_place_is_certain(how: str) -> None:
    address = 0xFFFFEA0000000000 + 0x12A300 * 64 + 52
    certain = said(fault_at(address, four_levels(READ_ONLY), how), Certainty.CERTAIN)
    assert "it is in the vmemmap: KASLR is off" in certain
    assert "the struct page of PFN 0x12a300" in certain
    assert "that HVO shares" in certain


def test_where_kaslr_may_have_moved_it_the_default_place_is_likely_at_most() -> None:
    of = fault_at(0xFFFFEA0000000034, four_levels(WRITABLE))
    assert "if KASLR has not moved it" in said(of, Certainty.LIKELY)
    assert "in the vmemmap" not in said(of, Certainty.CERTAIN)


@pytest.mark.parametrize("how", (MOVED, "Kernel Offset: 0x0 from 0xffffffff81000000"))
def test_where_kaslr_has_moved_it_the_default_place_says_nothing(how: str) -> None:
    """It moves regions of memory even where it happens to leave the image in its place."""
    found = report_on(
        [f"BUG: unable to handle page fault for address: {0xFFFFEA0000000034:x}", how]
    )
    assert any("KASLR of the kernel's image was on" in text for _, text in found.boots[0])
    of = fault_at(0xFFFFEA0000000034, four_levels(WRITABLE), how)
    assert "which region it is in" in said(of, Certainty.UNKNOWN)
    assert "in the vmemmap" not in said(of, Certainty.LIKELY) + said(of, Certainty.CERTAIN)


@pytest.mark.parametrize(
    ("address", "lines"),
    (
        # A pointer to the start of anything, and a stack that is above the vmemmap.
        (0xFFFFC90000123040, ("RIP: 0010:foo+0x1/0x2", "RBX: ffffc90000123040")),
        (0xFFFFC90000123048, ("RIP: 0010:foo+0x1/0x2", "RBX: ffffc90000123040")),
        (0xFFFF888123456074, ("RSP: 0018:ffffc900005ebcf0", "RBX: ffff888123456040")),
        (0xFFFF888123456074, ("RSP: 0018:ffffc900005ebcf0", f"{OOPS[7]}")),
    ),
)
def test_read_only_memory_of_others_is_not_likely_to_be_the_vmemmap(
    address: int, lines: Sequence[str]
) -> None:
    of = fault_at(address, four_levels(READ_ONLY), *lines)
    assert "vmemmap" not in said(of, Certainty.LIKELY) + said(of, Certainty.CERTAIN)


def test_an_instruction_fetch_is_named_in_english() -> None:
    of = fault_at(0xFFFFEA0000000034, access="instruction fetch", code=0x11)
    assert "the access was an instruction fetch" in said(of, Certainty.CERTAIN)


@pytest.mark.parametrize(
    ("address", "region"),
    (
        (0xFFFFFFFF81234567, "the kernel's image"),
        (0xFFFFFFFFC0001000, "the modules"),
        (0xFFFFFE0000001000, "the CPU entry areas"),
    ),
)
def test_what_kaslr_does_not_move_is_certainly_not_the_vmemmap(address: int, region: str) -> None:
    of = fault_at(address, four_levels(READ_ONLY), MOVED)
    assert f"it is in {region}, not in the vmemmap" in said(of, Certainty.CERTAIN)
    assert "HVO shares" not in said(of, Certainty.CERTAIN) + said(of, Certainty.LIKELY)


@pytest.mark.parametrize(
    ("address", "reason"),
    (
        (0x8, "a pointer to a structure was NULL"),
        (0x7FE300000000, "not in the kernel's half"),
        (0xDEAD000000000108, "it is not canonical"),
    ),
)
def test_what_is_no_address_of_the_kernel_is_called_that(address: int, reason: str) -> None:
    of = fault_at(address)
    assert reason in said(of, Certainty.CERTAIN)
    assert said(of, Certainty.LIKELY) == ""


def test_a_general_protection_fault_is_no_page_fault() -> None:
    line = (
        "Oops: general protection fault, probably for non-canonical address 0xdead000000000108: "
        "0000 [#1] SMP"
    )
    found = report_on([line])
    (of,) = found.accounts
    assert "a general protection fault does not say" in said(of, Certainty.UNKNOWN)
    assert not any("PGD" in item for item in found.collect)


@pytest.mark.parametrize(
    ("words", "cr4", "is_canonical"),
    (
        ("probably for non-canonical address", "", False),
        ("probably for non-canonical address", "CR4: 0000000000350ee0", False),
        ("maybe for address", "CR4: 0000000000350ee0", False),
        ("maybe for address", "CR4: 0000000000351ee0", True),
        ("maybe for address", "", True),
    ),
)
def test_an_address_of_five_levels_is_none_where_there_are_four(
    words: str, cr4: str, is_canonical: bool
) -> None:
    """The kernel knows how many it has, and says which addresses are not canonical."""
    line = f"Oops: general protection fault, {words} 0xffd4888100001234: 0000 [#1] SMP"
    of = account(line, cr4, NOT_MOVED)
    assert ("it is not canonical" in said(of, Certainty.CERTAIN)) is not is_canonical
    assert ("it is in the vmemmap" in said(of, Certainty.CERTAIN)) is is_canonical


def test_a_fault_without_its_details_is_not_called_a_write() -> None:
    of = account(f"BUG: unable to handle page fault for address: {FAULT:016x}")
    assert "what the access was" in said(of, Certainty.UNKNOWN)
    assert "write" not in said(of, Certainty.CERTAIN) + said(of, Certainty.LIKELY)


def test_an_entry_that_was_not_present_is_no_shared_page() -> None:
    walk = "PGD 7fcb0067 P4D 7fcb0067 PUD 7fcae067 PMD 0"
    of = fault_at(0xFFFFEA0000000034, walk, NOT_MOVED, access="read", code=0)
    certain = said(of, Certainty.CERTAIN)
    assert "the PMD was not present" in certain
    assert "a struct page that was not there" in certain
    assert "HVO shares" not in certain


def test_a_struct_page_that_was_poisoned_was_no_tail() -> None:
    words = " ".join(["ffffffffffffffff"] * 4)
    of = account(
        "page: refcount:-1 mapcount:-1 mapping:ffffffffffffffff index:0x0 pfn:0x2ec5",
        f"raw: {words}",
        f"raw: {words}",
        "page dumped because: unmovable page",
    )
    assert "its struct page was poisoned" in said(of, Certainty.CERTAIN)
    assert "tail" not in said(of, Certainty.CERTAIN)


@pytest.mark.parametrize(
    ("link", "where"),
    (
        (0xFFFFFFFFFFFF8001, "of a folio of order 9"),
        (0xFFFFFFFFFF000001, "of a folio of order 18"),
        (0xFFA09B70800B8001, "whose head is at 0xffa09b70800b8000"),
    ),
)
def test_a_tails_mask_says_of_which_order_its_folio_is(link: int, where: str) -> None:
    raw = f"raw: 0017ffffc0000000 {link:016x} 0000000000000000 dead000000000400"
    certain = said(account(BAD_PAGE[0], BAD_PAGE[2], raw), Certainty.CERTAIN)
    assert where in certain


@pytest.mark.parametrize(
    ("page_type", "is_hugetlb"),
    (("f4(hugetlb)", True), ("0xfffeffff(hugetlb)", True), ("f5(slab)", False)),
)
def test_a_dumped_page_of_a_hugetlb_folio_is_not_said_to_be_of_an_unknown_one(
    page_type: str, is_hugetlb: bool
) -> None:
    of = account(*BAD_PAGE[2:4], f"page_type: {page_type}", *BAD_PAGE[4:])
    assert ("the page type of a HugeTLB folio" in said(of, Certainty.CERTAIN)) is is_hugetlb
    assert ("whether the page is of a HugeTLB" in said(of, Certainty.UNKNOWN)) is not is_hugetlb


def test_a_tails_mask_proves_no_place_of_the_vmemmap() -> None:
    """With the PFN of a head just below 64 GiB, it would lead to a base that is aligned."""
    found = report_on(
        [
            "page: refcount:0 mapcount:0 mapping:0000000000000000 index:0x0 pfn:0xfffec0",
            "raw: 0017ffffc0000000 ffffffffffff8001 0000000000000000 dead000000000400",
        ]
    )
    assert not any("the vmemmap began at" in text for _, text in found.boots[0])


@pytest.mark.parametrize(
    ("line", "is_huge"),
    (
        ("Memory failure: 0x2ec5: recovery action for free huge page: Recovered", True),
        ("Memory failure: 0x2ec5: recovery action for free buddy page: Recovered", False),
        ("Soft offline: 0x2ec5: hugepage migration failed -12, type 0x17ffff()", True),
        ("HugeTLB: unexpected refcount on PFN 11973", True),
        ("BUG: Bad page state in process hugetlb-vmemmap  pfn:02ec5", False),
        ("Memory failure: 0x2ec5: Killing huge page:71 due to hardware memory corruption", False),
    ),
)
def test_a_huge_page_is_what_the_kernel_calls_so_not_what_a_process_is_called(
    line: str, is_huge: bool
) -> None:
    of = account(line)
    assert ("the kernel calls it a huge page" in said(of, Certainty.CERTAIN)) is is_huge


def test_a_memory_failure_says_of_which_huge_page_it_may_be() -> None:
    of = account("Memory failure: 0x2ec5: recovery action for huge page: Recovered")
    certain = said(of, Certainty.CERTAIN)
    assert "physical address 0x2ec5000" in certain and "head is PFN 0x2e00" in certain
    assert "number 5 in vmemmap page 3" in certain
    assert "the kernel calls it a huge page" in certain
    assert "optimized" in said(of, Certainty.UNKNOWN)


@pytest.mark.parametrize(
    ("option", "certainty"),
    (
        ("hugetlb_free_vmemmap=on", "switched on by the command line"),
        ("hugetlb_free_vmemmap=off", "switched off by the command line"),
        ("hugetlb_free_vmemmap=on hugetlb_free_vmemmap=off", "switched off by the command line"),
        ("hugetlb-free-vmemmap=off hugetlb_free_vmemmap=Y", "switched on by the command line"),
        ("hugetlb_free_vmemmap", "switched on by the command line"),
        ("hugetlb_free_vmemmap=no", "switched off by the command line"),
        ("hugetlb_free_vmemmap=0", "switched off by the command line"),
        ("hugetlb_free_vmemmap=yes", "switched on by the command line"),
        ("hugetlb_free_vmemmap=off hugetlb_free_vmemmap=maybe", "the command line does not say"),
        ("-- hugetlb_free_vmemmap=on", "the command line does not say"),
        ("quiet", "the command line does not say"),
    ),
)
def test_whether_hvo_was_on_is_in_the_command_line_at_most(option: str, certainty: str) -> None:
    found = report_on(["Linux version 6.12.117 (x)", f"Command line: ro {option}", *OOPS])
    assert any(certainty in text for _, text in found.boots[0])


def test_an_entry_with_a_reserved_bit_is_not_said_to_map_anything() -> None:
    of = account(
        "CPU0: Corrupted page table at address fff83f7600093174",
        four_levels(0xFFFFFFFFFFFFFFFF),
        "Oops: Bad pagetable: 000b [#1] PREEMPT SMP NOPTI",
    )
    certain = said(of, Certainty.CERTAIN)
    assert "the access was a write" in certain and "reserved bit" in certain
    assert "mapped writable" not in certain and "the page was mapped" not in certain


@pytest.mark.parametrize(("code", "what"), (("0x0023", "protection key"), ("0x80000003", "RMP")))
def test_an_access_that_no_entry_forbade_is_not_said_to_be_forbidden_by_the_page(
    code: str, what: str
) -> None:
    of = account(
        "BUG: unable to handle page fault for address: fff83f7600093174",
        "#PF: supervisor write access in kernel mode",
        f"#PF: error_code({code}) - x",
    )
    certain = said(of, Certainty.CERTAIN)
    assert "the access was a write" in certain and what in certain
    assert "the page was mapped, and its mapping forbade the access" not in certain


def test_a_command_line_with_nokaslr_says_that_kaslr_was_off() -> None:
    found = report_on(["Command line: ro nokaslr", *OOPS])
    assert [(how, text) for how, text in found.boots[0] if "KASLR" in text] == [
        (Certainty.CERTAIN, "KASLR was off, by the command line's nokaslr")
    ]
    wanted = "\n".join(found.collect)
    assert "command line" not in wanted


def test_what_to_collect_is_what_the_log_lacks() -> None:
    lacking = "\n".join(report_on(OOPS[:1]).collect)
    assert "#PF, and PGD to PTE" in lacking and "Kernel Offset" in lacking
    full = report_on(["Linux version 6.12.117 (x)", "Command line: ro", *OOPS, MOVED])
    assert all("vmcore" in item or "running kernel" in item for item in full.collect)


@pytest.mark.parametrize("form", ("serial line", "journalctl -o json, bytes", "mail, base64"))
def test_the_command_says_the_same_without_a_target_in_every_form(form: str) -> None:
    done, plain = piped(FORMS[form](LOG)), piped(FORMS["bare"](LOG))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == plain.stdout
    assert "certain: it is in the vmemmap, which begins at 0xffa09b7080000000" in done.stdout


def test_the_command_says_the_same_as_json() -> None:
    done = piped("\n".join(LOG).encode(), "--format", "json")
    found = json.loads(done.stdout)
    assert found["text_only"][0]["value"] == hex(FAULT)
    certainties = {s["certainty"] for each in found["text_only"] for s in each["statements"]}
    assert certainties == {"certain", "likely", "unknown"}
    assert found["collect"] and not found["not_explained"]


@pytest.mark.parametrize(
    ("times", "others"), ((1, ""), (2, " (and in 1 more line)"), (3, " (and in 2 more lines)"))
)
def test_a_fault_that_is_in_several_lines_is_explained_once(times: int, others: str) -> None:
    line = "BUG: unable to handle page fault for address: ffffea0004a8c034"
    shown = render(report_on([line] * times), "table").splitlines()
    assert [each for each in shown if "log: " in each] == [f"  log: {line}{others}"]


def test_a_text_that_names_nothing_says_so() -> None:
    done = run(COMMAND, "explain", "--stdin", input="hello\n")
    assert (done.returncode, done.stdout) == (0, "the text names no fault and no page\n")


def test_what_is_no_text_is_refused_in_one_line() -> None:
    for data in (b"\x7fELF\2\1\1", b"\x89PNG\r\n\x1a\n", bytes(range(256)) * 16, bytes(100)):
        done = piped(data)
        assert (done.returncode, done.stdout) == (2, "")
        assert len(done.stderr.splitlines()) == 1 and "no text" in done.stderr


def test_what_is_beyond_the_limit_is_counted_with_exit_code_3() -> None:
    log = "\n".join(f"Memory failure: {pfn:#x}: x" for pfn in range(0x1000, 0x1000 + 4100))
    done = piped(log.encode())
    assert done.returncode == 3
    assert "4 more addresses and PFNs in the text were not explained" in done.stdout


def test_a_report_without_accounts_asks_for_nothing() -> None:
    assert render(TextReport(), "table") == "the text names no fault and no page\n"
