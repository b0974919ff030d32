# SPDX-License-Identifier: LGPL-2.1-or-later

"""Logs of a recorded kernel: what its dump says of what they name."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import pytest

from drgn_vmemmap.explain.dump.explained_log import LogExplanation, explain_log
from drgn_vmemmap.explain.dump.explainer import Explainer
from drgn_vmemmap.explain.dump.explanation import Explanation
from drgn_vmemmap.explain.dump.places import Place
from drgn_vmemmap.explain.log.boot import Boot
from drgn_vmemmap.explain.log.reader import find_mentions
from drgn_vmemmap.explain.text.read import read_text
from drgn_vmemmap.kernel.page_names import page_names
from drgn_vmemmap.output.explanation import text
from drgn_vmemmap.output.logged import rest_of_log
from tests.damage.edited import EditedKernel
from tests.explain.forms import FORMS
from tests.explain.logs import BAD_PAGE, FAULT, LOG, OOPS
from tests.support import shared_vmcore

FOLIO, REUSE_FRAME = 0x2E00, 0x35F9B


@cache
def recorded() -> tuple[Explainer, Boot]:
    prog = shared_vmcore("head-reuse")
    return Explainer.of_program(prog), Boot.of_program(prog)


def explained(lines: Sequence[str], form: str = "bare") -> LogExplanation:
    explains, boot = recorded()
    return explain_log(explains, read_text(FORMS[form](lines)).lines, boot)


def the_only(found: LogExplanation) -> Explanation:
    (explanation,) = found.explanations
    return explanation


def test_what_drgn_prints_of_a_tail_leads_to_its_head() -> None:
    (explanation,) = explained(
        [f".compound_head = (unsigned long){0xFFA09B70800B8001},"]
    ).explanations
    assert explanation.page is not None and explanation.page.pfn == FOLIO
    said = text(explanation)
    assert "with bit 0 set: as compound_head of a tail, it leads to its head" in said
    assert f"head of folio {FOLIO:#x}" in said


@pytest.mark.parametrize("form", ("commit message", "dmesg --color", "quoted-printable, quoted"))
def test_a_fault_in_a_tail_is_explained_with_its_access_and_its_walk(form: str) -> None:
    explanation = the_only(explained(OOPS, form))
    assert explanation.query.address == FAULT
    logged = explanation.logged
    assert logged is not None and logged.mention.access == "write"
    assert all(entry.is_same for entry in logged.entries)
    assert logged.leaf is not None and not logged.leaf.writable
    assert logged.leaf.frame == REUSE_FRAME
    said = text(explanation)
    assert "the walk in the log is the same as in the dump" in said
    assert f"to {REUSE_FRAME:#x}" in said
    assert "the page tables in the dump forbid this write, too" in said


def edited_explanation(raw: int | None, log: Sequence[str] = OOPS) -> Explanation:
    """
    What is said of the oops when the entry has changed since.

    :param raw: What the entry is in the dump; ``None`` if it is as it was.
    """
    prog = shared_vmcore("head-reuse")
    kernel = EditedKernel(prog)
    if raw is not None:
        kernel.write_entry(FOLIO, 3, raw)
    explains = Explainer(kernel.snapshot(), page_names(prog))
    return the_only(explain_log(explains, read_text("\n".join(log).encode()).lines, Boot()))


def test_an_entry_that_was_remapped_since_the_fault_is_shown_as_it_was() -> None:
    explanation = edited_explanation(0x8000000035FB0163)
    said = text(explanation)
    assert "the PTE was 8000000035f9b121 in the log, and is 8000000035fb0163 now" in said
    assert f"in the log's walk, the page was read-only, mapped by a PTE to {REUSE_FRAME:#x}" in said
    assert f"now backs vmemmap pages 0-2,4-7 of folio {FOLIO:#x}" in said
    assert f"it is the reuse frame of folio {FOLIO:#x}" in said
    assert "the page tables in the dump allow this write" in said
    assert "the page was remapped since" in said


def test_a_fault_that_the_logged_walk_allows_is_a_stale_tlb_entry_or_a_race() -> None:
    log = [line.replace("8000000035f9b121", "8000000035fb0163") for line in OOPS]
    explanation = edited_explanation(0x8000000035FB0163, log)
    assert explanation.logged is not None and explanation.logged.allowed_now
    assert "stale TLB entry" in text(explanation)
    assert "changed since" not in text(explanation)


@pytest.mark.long
@pytest.mark.parametrize(
    ("code", "cause"),
    (
        ("0x0009", "an entry had a reserved bit set"),
        ("0x000b", "an entry had a reserved bit set"),
        ("0x0023", "a protection key forbade it"),
        ("0x80000003", "the reverse map table of SEV-SNP (RMP) forbade it"),
    ),
)
def test_what_no_entry_forbade_is_no_stale_tlb_entry(code: str, cause: str) -> None:
    writable = [line.replace("8000000035f9b121", "8008000035fb0163") for line in OOPS]
    log = [*writable[:2], f"#PF: error_code({code}) - x", writable[3]]
    for lines in (log, log[:3]):
        said = text(edited_explanation(0x8000000035FB0163, lines))
        assert cause in said
        assert "stale" not in said
    if "reserved" in cause:
        assert "mapped by a PTE to" not in text(edited_explanation(0x8000000035FB0163, log))


def test_an_entry_that_was_written_after_the_fault_is_no_stale_tlb_entry() -> None:
    log = [line.replace("8000000035f9b121", "8000000035fb0163") for line in OOPS]
    log[2] = "#PF: error_code(0x0002) - not-present page"
    said = text(edited_explanation(0x8000000035FB0163, log))
    assert "the page was not mapped when it faulted" in said
    assert "stale" not in said


def test_a_walk_that_ends_at_the_top_is_a_table_that_was_not_synchronised() -> None:
    log = [*OOPS[:2], "#PF: error_code(0x0002) - not-present page", "PGD 0 ", *OOPS[4:]]
    explanation = edited_explanation(0x8000000035FB0163, log)
    assert "had not been synchronised with init_mm" in text(explanation)


@pytest.mark.parametrize(
    ("code", "stale", "unsynchronised"),
    (("0x0003", True, False), ("0x0002", False, True)),
)
def test_without_a_walk_the_error_code_leaves_two_causes(
    code: str, stale: bool, unsynchronised: bool
) -> None:
    log = [OOPS[0], OOPS[1], f"#PF: error_code({code}) - x"]
    said = text(edited_explanation(0x8000000035FB0163, log))
    assert "remapped since" in said
    assert ("stale TLB entry" in said) == stale
    assert ("not synchronised" in said) == unsynchronised


def test_a_fault_beyond_all_memory_is_of_a_struct_page_that_does_not_exist() -> None:
    explanation = the_only(
        explained(
            (
                "BUG: unable to handle page fault for address: ffa09b708404ca08",
                "#PF: supervisor read access in kernel mode",
                "#PF: error_code(0x0000) - not-present page",
                "PGD 7fcb0067 P4D 7fcaf067 PUD 7fcae067 PMD 0",
                "RIP: 0010:mshv_vtl_low_huge_fault+0x4b/0x240",
            )
        )
    )
    assert explanation.page is not None
    assert (explanation.page.pfn, explanation.page.place) == (0x101328, Place.NO_MEMMAP)
    assert "0x101328 has no memmap: no section holds it" in text(explanation)
    assert "needed a struct page that does not exist" in text(explanation)


def test_a_dumped_tail_is_shown_as_it_was_and_as_it_is() -> None:
    explanation = the_only(explained(BAD_PAGE))
    logged = explanation.logged
    assert logged is not None and logged.contents is not None
    assert (logged.contents.head, logged.contents.refcount) == (FOLIO, 0)
    assert logged.contents.flag_names == []
    said = text(explanation)
    assert f"a tail, which leads to the head {FOLIO:#x}" in said
    assert "its vmemmap was remapped and restored" in said
    assert explanation.of_page is not None and explanation.of_page.page is not None
    now = explanation.of_page.page.contents
    assert now is not None
    # The dump still has the folio's fake head there.
    assert (now.flag_names, now.page_type) == (["head"], "hugetlb")


def test_registers_do_not_crowd_out_what_the_kernel_says() -> None:
    flood = [
        f"{name}: {0xFF11000000000000 + cpu * 64 + n:016x}"
        for cpu in range(3000)
        for n, name in enumerate(("RAX", "RBX", "RCX"))
    ]
    found = explained([*flood, *LOG])
    named = [explanation.query.text for explanation in found.explanations]
    assert hex(FAULT) in named and "pfn:0x2ec6" in named
    assert (found.dropped, found.incomplete) == (0, False)


def test_what_is_not_explained_is_counted() -> None:
    found = explained([f"Memory failure: {pfn:#x}: x" for pfn in range(0x100000, 0x100000 + 4200)])
    assert (len(found.others), found.dropped, found.incomplete) == (4096, 104, True)
    assert "104 more addresses and PFNs in the log were not explained" in [*rest_of_log(found)]


# Logs of other boots.

OTHER = (
    "BUG: unable to handle page fault for address: ffffea0004a8c034",
    "#PF: supervisor write access in kernel mode",
    "CPU: 0 UID: 0 PID: 71 Comm: kcompactd0 Not tainted 6.12.117 #1",
)
OFFSET = "Kernel Offset: 0x1c00000 from 0xffffffff81000000 (relocation range: 0xffffffff80000000-x)"
OWN_OFFSET = "Kernel Offset: 0x2b600000 from 0xffffffff81000000"


FOUR_LEVELS = "CR2: ffffea0004a8c034 CR3: 0000000036022000 CR4: 00000000000006f0"


def test_a_log_with_another_kernel_offset_is_of_another_boot() -> None:
    found = explained([*OTHER, OFFSET])
    (foreign,) = found.foreign
    assert (found.explanations, found.incomplete) == ([], True)
    assert "Kernel Offset is 0x1c00000, the dump's 0x2b600000" in foreign.why
    said = "\n".join(rest_of_log(found))
    assert "fault 0xffffea0004a8c034: of another boot" in said
    assert OTHER[0] in said


def test_a_log_of_another_release_is_of_another_kernel() -> None:
    (foreign,) = explained([*OTHER[:2], OTHER[2].replace("6.12.117", "6.11.2-x")]).foreign
    assert "the log's kernel is 6.11.2-x" in foreign.why


@pytest.mark.parametrize("release", ("6.12.117", "6.12.117+deb13-cloud-amd64"))
def test_a_log_of_this_release_and_offset_is_of_this_boot(release: str) -> None:
    log = [line.replace("6.12.117", release) for line in OOPS]
    assert the_only(explained([*log, OWN_OFFSET])).query.address == FAULT


@pytest.mark.parametrize("release", ("6.12.1", "6.12.1170", "6.1"))
def test_a_release_that_only_begins_like_this_one_is_another(release: str) -> None:
    assert explained([line.replace("6.12.117", release) for line in OOPS]).foreign


def test_an_address_of_another_boot_is_translated_where_the_log_proves_its_base() -> None:
    page = "page:ffffea0004a8c040 refcount:1 mapcount:0 mapping:0 index:0x0 pfn:0x12a301"
    found = explained([*OTHER, page, OFFSET])
    fault, dumped, _ = found.foreign
    assert (fault.pfn, dumped.pfn) == (0x12A300, 0x12A301)
    assert "the struct page of PFN 0x12a300 of that boot" in "\n".join(rest_of_log(found))


def test_an_address_of_another_boot_without_kaslr_is_translated() -> None:
    found = explained([*OTHER, FOUR_LEVELS, "Kernel Offset: disabled"])
    assert [foreign.pfn for foreign in found.foreign] == [0x12A300]


def test_of_a_log_of_several_boots_each_is_held_against_the_dump() -> None:
    first = ["Linux version 6.11.0 (x) #1", *OTHER[:2], OFFSET]
    second = ["Linux version 6.12.117+deb13-cloud-amd64 (x) #1", *OOPS, OWN_OFFSET]
    found = explained([*first, *second])
    assert [each.mention.value for each in found.foreign] == [0xFFFFEA0004A8C034]
    assert the_only(found).query.address == FAULT


BOOT = "-- Boot 0123456789abcdef0123456789abcdef --"


@pytest.mark.parametrize("between", (BOOT, "-- Reboot --"))
def test_journalctl_separates_boots(between: str) -> None:
    for log in ([*OTHER[:2], OFFSET, between, *OOPS], [BOOT, *OOPS, between, *OTHER[:2], OFFSET]):
        found = explained(log)
        assert [each.mention.value for each in found.foreign] == [0xFFFFEA0004A8C034]
        assert the_only(found).query.address == FAULT


OTHER_RELEASE = (*OTHER[:2], OTHER[2].replace("6.12.117", "6.11.2-x"))


@pytest.mark.parametrize("first", ((), ("Linux version 6.12.117 (x) #1", "Memory failure: 0x1: x")))
def test_oopses_of_two_kernels_in_one_text_are_of_two_boots(first: tuple[str, ...]) -> None:
    for oopses in ((*OTHER_RELEASE, *OOPS), (*OOPS, *OTHER_RELEASE)):
        found = explained([*first, *oopses])
        assert [each.mention.value for each in found.foreign] == [0xFFFFEA0004A8C034]
        assert the_only(found).query.address == FAULT


def test_panics_with_two_offsets_in_one_text_are_of_two_boots() -> None:
    own, other = (*OOPS, OWN_OFFSET), (*OTHER, *OTHER, OFFSET)
    for panics in ((*other, *own), (*own, *other), (*own, *own, *other)):
        found = explained(panics)
        assert {each.mention.value for each in found.foreign} == {0xFFFFEA0004A8C034}
        assert the_only(found).query.address == FAULT


def test_an_address_that_two_boots_name_is_explained_for_the_one_of_the_dump() -> None:
    oops = (line.replace("6.12.117", "6.11.0") for line in OOPS)
    first = ["Linux version 6.11.0 (x) #1", *oops]
    second = ["Linux version 6.12.117+deb13-cloud-amd64 (x) #1", *OOPS, OWN_OFFSET]
    found = explained([*first, *second])
    assert [each.mention.value for each in found.foreign] == [FAULT]
    assert the_only(found).query.address == FAULT


def test_a_walk_through_other_tables_is_likely_of_another_boot() -> None:
    log = [line.replace("P4D 7fcaf067", "P4D 7abcd067") for line in OOPS]
    said = text(the_only(explained(log)))
    assert "the P4D was 000000007abcd067 in the log, and is 000000007fcaf067 now" in said
    assert "likely: the log is of another boot" in said
    assert "another boot" not in text(the_only(explained(OOPS)))


@pytest.mark.parametrize(
    ("build_id", "differs"), (("0123456789abcdef0123456789abcdef01234567", True), (None, False))
)
def test_a_log_with_another_build_id_is_of_another_kernel(
    build_id: str | None, differs: bool
) -> None:
    dump = Boot(release="6.12.117", build_id="f" * 40)
    assert (Boot(release="6.12.117", build_id=build_id).difference(dump) is not None) == differs


def test_a_build_id_after_the_release_is_read() -> None:
    build_id = "0123456789abcdef0123456789abcdef01234567"
    line = f"CPU: 0 UID: 0 PID: 7 Comm: x Not tainted 6.12.117 #1 PREEMPT(voluntary)  {build_id} "
    log = read_text("\n".join((OOPS[0], line)).encode())
    (mention,) = find_mentions(log.lines).named
    assert (mention.boot.release, mention.boot.build_id) == ("6.12.117", build_id)


@pytest.mark.parametrize(
    "reason",
    (
        "VM_BUG_ON_PAGE(PageTail(page))",
        "VM_BUG_ON_FOLIO(folio_ref_count(folio) <= 0)",
        "VM_WARN_ON_ONCE_FOLIO(!folio_test_hugetlb(folio))",
        "nonzero mapcount",
        "unmovable page",
    ),
)
def test_why_a_page_of_a_folio_was_dumped_is_said(reason: str) -> None:
    log = (
        "page: refcount:0 mapcount:0 mapping:0000000000000000 index:0x0 pfn:0x2ec5",
        f"page dumped because: {reason}",
    )
    assert f"log: page dumped because: {reason}" in text(the_only(explained(log)))
