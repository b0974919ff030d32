# SPDX-License-Identifier: LGPL-2.1-or-later

"""Entries over the vmemmap with bits that the kernel never sets there."""

from __future__ import annotations

from dataclasses import replace

import pytest

from drgn_vmemmap import verify
from drgn_vmemmap.analysis import judging
from drgn_vmemmap.hvo.verdict import Verdict
from tests.synthetic.image import Image
from tests.synthetic.kernels import LINES, ONE_OF_EACH_LAYOUT
from tests.synthetic.model import FIRST_FOLIO, Folio, Machine
from tests.synthetic.physical import NO_EXECUTE, PAGE_SHIFT, USER

UNSPLIT = FIRST_FOLIO + 64 * 512 * 2
UNCACHED = 0x18
"""``_PAGE_PWT`` and ``_PAGE_PCD``"""

every_layout = pytest.mark.parametrize("release", ONE_OF_EACH_LAYOUT)
every_change = pytest.mark.parametrize(
    ("change", "words"),
    ((NO_EXECUTE, "no NX"), (UNCACHED, "PWT, PCD"), (USER, "USER")),
    ids=("executable", "uncached", "user"),
)


def image(release: str) -> Image:
    folios = (Folio(FIRST_FOLIO), Folio(FIRST_FOLIO + 512), Folio(UNSPLIT, remapped=False))
    return Image(Machine(line=LINES[release], folios=folios))


@every_change
@every_layout
def test_an_entry_of_an_optimized_folio_is_named_with_its_bits(
    release: str, change: int, words: str
) -> None:
    changed = image(release)
    for index in (0, 5):
        changed.write_entry(FIRST_FOLIO, index, changed.entry(FIRST_FOLIO, index) ^ change)
    report = verify(changed.prog)
    found = [f for f in report.findings if f.rule != "unoptimized"]
    assert [(f.rule, f.severity.value, f.folio, f.index) for f in found] == [
        ("entry-attributes", "warning", FIRST_FOLIO, index) for index in (0, 5)
    ]
    assert all(words in finding.message for finding in found)
    assert report.folios[0].judgement.verdict is Verdict.OPTIMIZED
    assert not report.broken


@every_layout
def test_a_machine_without_nx_misses_it_nowhere(release: str) -> None:
    folios = (Folio(FIRST_FOLIO), Folio(FIRST_FOLIO + 512), Folio(UNSPLIT, remapped=False))
    plain = Image(Machine(line=LINES[release], folios=folios, has_no_execute=False))
    assert {f.rule for f in verify(plain.prog).findings} == {"unoptimized"}
    # What the kernel sets nowhere is still found.
    plain.write_entry(FIRST_FOLIO, 0, plain.entry(FIRST_FOLIO) | USER)
    (finding,) = (f for f in verify(plain.prog).findings if f.rule != "unoptimized")
    assert finding.message == "PTE entry has USER"


def test_folios_of_a_machine_without_nx_are_judged_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    machine = Machine(folios=(Folio(FIRST_FOLIO), Folio(UNSPLIT, remapped=False)))
    expected = [(f, j.verdict) for f, j in verify(Image(machine).prog).folios]
    plain = Image(replace(machine, has_no_execute=False))
    monkeypatch.setattr(judging, "judge", None)  # which is called for each folio apart
    assert [(f, j.verdict) for f, j in verify(plain.prog).folios] == expected


@every_change
@every_layout
def test_a_large_leaf_is_named_once(release: str, change: int, words: str) -> None:
    changed = image(release)
    leaf = changed.entry(UNSPLIT, level="PMD")
    changed.write_entry(UNSPLIT, 0, leaf ^ change, level="PMD")
    (finding,) = (f for f in verify(changed.prog).findings if f.rule != "unoptimized")
    assert (finding.rule, finding.folio) == ("entry-attributes", UNSPLIT)
    assert words in finding.message


@every_layout
def test_entries_over_memory_of_no_folio_are_named_together_where_they_are_alike(
    release: str,
) -> None:
    changed, first = image(release), FIRST_FOLIO + 512 * 4
    changes = {1: USER, 2: USER, 3: USER, 4: UNCACHED, 6: USER, 7: USER}
    for index, change in changes.items():
        changed.write_entry(first, index, changed.entry(first, index) | change)
    found = [f for f in verify(changed.prog).findings if f.rule == "entry-attributes"]
    assert [(f.address, f.message) for f in found] == [
        (
            changed.machine.page_address(first + 64 * start),
            f"vmemmap of PFNs {first + 64 * start:#x} to {first + 64 * stop - 1:#x}: "
            f"PTE entry has {words}",
        )
        for start, stop, words in ((1, 4, "USER"), (4, 5, "PWT, PCD"), (6, 8, "USER"))
    ]


@every_layout
def test_a_large_leaf_over_memory_of_no_folio_is_named_once(release: str) -> None:
    """Leaves before and after it are as they should be."""
    changed, pfn = image(release), UNSPLIT + 64 * 512
    changed.write_entry(pfn, 0, changed.entry(pfn, level="PMD") | USER, level="PMD")
    (finding,) = (f for f in verify(changed.prog).findings if f.rule == "entry-attributes")
    assert finding.folio is None
    assert finding.message == (
        f"vmemmap of PFNs {pfn:#x} to {pfn + 64 * 512 - 1:#x}: PMD entry has USER"
    )


LEVELS = ("PMD", "PUD", "PGD")


@pytest.mark.parametrize("level", LEVELS)
@every_layout
def test_an_entry_that_leads_to_a_table_which_is_read_uncached_is_named_once(
    release: str, level: str
) -> None:
    changed = image(release)
    entry = changed.entry(FIRST_FOLIO, level=level) | UNCACHED
    changed.write_entry(FIRST_FOLIO, 0, entry, level=level)
    report = verify(changed.prog)
    (finding,) = (f for f in report.findings if f.rule != "unoptimized")
    assert (finding.rule, finding.severity.value, finding.folio) == (
        "entry-attributes",
        "warning",
        None,
    )
    assert f"the {level} entry that leads to it has PWT, PCD" in finding.message
    assert (finding.entry, finding.entry_address) == (
        entry,
        changed.entry_address(FIRST_FOLIO, 0, level),
    )
    assert finding.address is not None
    assert finding.address <= changed.machine.page_address(FIRST_FOLIO)
    assert not report.broken


@every_layout
def test_a_table_of_the_kernel_may_be_reached_by_an_entry_with_user_or_without_execution(
    release: str,
) -> None:
    """The leaves decide: ``_PAGE_TABLE`` has USER, and what is below a table has no more."""
    changed = image(release)
    for level in LEVELS:
        for bit in (USER, NO_EXECUTE):
            entry = changed.entry(FIRST_FOLIO, level=level)
            changed.write_entry(FIRST_FOLIO, 0, entry ^ bit, level=level)
    assert {f.rule for f in verify(changed.prog).findings} == {"unoptimized"}


@every_layout
def test_an_uncached_table_beside_a_leaf_that_is_uncached_has_a_finding_of_its_own(
    release: str,
) -> None:
    changed = image(release)
    leaf = changed.entry(UNSPLIT, level="PMD")
    changed.write_entry(UNSPLIT, 0, leaf | UNCACHED, level="PMD")
    changed.write_entry(FIRST_FOLIO, 0, changed.entry(FIRST_FOLIO, level="PMD") | UNCACHED, "PMD")
    found = [f for f in verify(changed.prog).findings if f.rule == "entry-attributes"]
    assert {f.folio for f in found} == {UNSPLIT, None}
    assert sum("leads to it has PWT, PCD" in f.message for f in found) == 1


@pytest.mark.parametrize("level", LEVELS[:2])
def test_attributes_are_named_as_far_as_the_tables_are_in_the_dump(level: str) -> None:
    """The table in which an entry of this level lies is not."""
    partial = image("6.12.0")
    partial.write_entry(FIRST_FOLIO, 0, partial.entry(FIRST_FOLIO, level="PGD") | UNCACHED, "PGD")
    partial.drop_frame(partial.entry_address(FIRST_FOLIO, 0, level) >> PAGE_SHIFT)
    found = [f for f in verify(partial.prog).findings if f.rule == "entry-attributes"]
    assert [f.entry_address for f in found] == [partial.entry_address(FIRST_FOLIO, 0, "PGD")]
