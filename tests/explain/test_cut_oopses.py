# SPDX-License-Identifier: LGPL-2.1-or-later

"""An oops whose beginning is lost."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from drgn_vmemmap.explain.dump.explained_log import explain_log
from drgn_vmemmap.explain.dump.explainer import Explainer
from drgn_vmemmap.explain.log.boot import Boot
from drgn_vmemmap.explain.log.mention import Mention
from drgn_vmemmap.explain.messages.message import Kind
from drgn_vmemmap.explain.text.read import read_text
from drgn_vmemmap.explain.text_only.statements import Certainty
from drgn_vmemmap.output.explanation import text
from tests.explain.logs import FAULT, OOPS, WALK
from tests.explain.reading import mentions_in, report_on
from tests.support import COMMAND, open_vmcore, run

FRAME = 0x35F9B
WALK_LINE = OOPS[3]
REGISTERS = OOPS[7:14]


def only(lines: Sequence[str]) -> Mention:
    (mention,) = mentions_in(lines).named
    return mention


def said(lines: Sequence[str], certainty: Certainty) -> str:
    (account,) = report_on(lines).accounts
    return "\n".join(text for how, text in account.statements if how is certainty)


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
    assert "whether this is what faulted" in said(REGISTERS, Certainty.UNKNOWN)


@pytest.mark.parametrize(
    "line",
    (
        "WARNING: CPU: 0 PID: 71 at mm/page_alloc.c:123 free_unref_page+0x1/0x2",
        "WARNING: mm/page_alloc.c:123 at free_unref_page+0x1/0x2, CPU#0: kcompactd0/71",
        "WARNING: [page[1].flags] mm/page_alloc.c:123 at free_unref_page+0x1/0x2, CPU#0: foo/71",
        "WARNING: at free_unref_page+0x1/0x2, CPU#0: kcompactd0/71",
        "kernel BUG at mm/hugetlb.c:1234!",
        "Oops: general protection fault: 0000 [#1] SMP",
        "NMI backtrace for cpu 1",
    ),
)
def test_registers_of_what_was_no_page_fault_name_no_address(line: str) -> None:
    assert mentions_in([line, "RIP: 0010:foo+0x1/0x2", *REGISTERS]).named == []


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
    (mention,) = mentions_in([line, *OOPS[first:]]).named
    assert mention.value == FAULT
    assert mention.functions[0] == "isolate_migratepages_block"


def test_a_walk_after_another_dump_begins_a_fault() -> None:
    warning = ("WARNING: CPU: 0 PID: 71 at mm/page_alloc.c:123 free_unref_page+0x1/0x2", *REGISTERS)
    mention = only([*warning, *OOPS[3:]])
    assert (mention.kind, mention.value, mention.access) == (Kind.FAULT, FAULT, "write")


def test_an_address_of_user_space_in_cr2_is_not_named() -> None:
    assert (
        mentions_in(["RIP: 0010:foo+0x1/0x2", "CR2: 00007fe300000000 CR3: 0000000036022000"]).named
        == []
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
    assert mentions_in(OOPS[1:3]).unnamed == 1
    done = run(COMMAND, "explain", "--stdin", input=lines)
    assert done.returncode == 3
    assert "1 page fault was not explained: the lines with its address" in done.stdout


@pytest.mark.parametrize("digits", ("", " ", " ffa09b7080"))
def test_a_fault_whose_address_is_cut_off_is_counted_unless_cr2_has_it(digits: str) -> None:
    cut = OOPS[0].partition(" ffa0")[0] + digits
    assert (mentions_in([cut]).named, mentions_in([cut]).unnamed) == ([], 1)
    mention = only([cut, *REGISTERS])
    assert (mention.kind, mention.value) == (Kind.FAULT, FAULT)


@pytest.mark.parametrize("words", ("unable to handle page fault for", "NULL pointer dereference,"))
def test_an_address_is_read_without_the_space_before_it(words: str) -> None:
    mention = only([f"BUG: {words} address:{FAULT:016x}", *OOPS[1:4]])
    assert (mention.kind, mention.value, mention.access) == (Kind.FAULT, FAULT, "write")


def test_an_oops_that_lost_its_first_lines_is_no_part_of_one_far_above() -> None:
    other = FAULT + 0x1000
    second = [line.replace(f"{FAULT:016x}", f"{other:016x}") for line in OOPS[1:]]
    found = mentions_in([*OOPS, *["[  1.5] usb 1-1: new device"] * 130, *second])
    assert [mention.value for mention in found.named] == [FAULT, other]
    first, fault = found.named
    assert (first.access, fault.access) == ("write", "write")
    assert fault.walk is not None and fault.message is not None and fault.message.name == "CR2"


def test_each_virtual_processor_of_a_hung_guest_has_the_address_of_its_last_page_fault() -> None:
    """``info registers -a`` of QEMU's monitor."""
    lines = [
        f"CPU#{number}\nRIP=ffffffff8132d2f1 RFL=00010246 [---Z-P-] CPL=0 II=0 A20=1 SMM=0 HLT=0\n"
        f"CR0=80050033 CR2={address:016x} CR3=0000000036022000 CR4=00771ef0"
        for number, address in enumerate((FAULT, 0x7FE300000000, FAULT + 0x1000))
    ]
    found = mentions_in(["(qemu) info registers -a", *lines]).named
    assert [each.value for each in found] == [FAULT, FAULT + 0x1000]
    assert all(
        "whether this is what faulted" in said([line], Certainty.UNKNOWN) for line in lines[::2]
    )


TITLE = "Oops: 0003 [#1] PREEMPT SMP NOPTI"
CRASH = (
    f'       PANIC: "{TITLE}" (check log for details)',
    "crash> bt",
    "    [exception RIP: isolate_migratepages_block+753]",
    "    RAX: 0000000000000001  RBX: ffa09b70800bb140  RCX: 0000000000000000",
    "crash> log",
)


@pytest.mark.parametrize("lines", ([TITLE, "", *OOPS], [*OOPS, "", TITLE], [*CRASH, *OOPS]))
def test_an_oops_that_a_title_or_crash_names_as_well_is_counted_once(lines: list[str]) -> None:
    assert mentions_in(lines).unnamed == 0


@pytest.mark.parametrize("first", (TITLE, "Oops: 0003 [#2] PREEMPT SMP", "Oops: 0000 [#1]"))
def test_an_oops_that_nothing_else_names_is_counted(first: str) -> None:
    other = [line.replace("0003 [#1]", "0003 [#3]") for line in OOPS]
    assert mentions_in([first, *["usb 1-1: new device"] * 20, *other]).unnamed == 1


def test_a_line_that_is_too_far_from_its_fault_is_no_fault_of_its_own() -> None:
    found = mentions_in([*OOPS, *["[  1.5] usb 1-1: new device"] * 40, OOPS[1]])
    assert ([mention.value for mention in found.named], found.unnamed) == ([FAULT], 0)
