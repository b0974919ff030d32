# SPDX-License-Identifier: LGPL-2.1-or-later

"""Leaves over the vmemmap with bits that the kernel never sets there."""

from __future__ import annotations

from dataclasses import replace

import pytest

from drgn_vmemmap import verify
from drgn_vmemmap.analysis import judging
from drgn_vmemmap.hvo.verdict import Verdict
from tests.synthetic.image import Image
from tests.synthetic.kernels import LINES, ONE_OF_EACH_LAYOUT
from tests.synthetic.model import FIRST_FOLIO, Folio, Machine
from tests.synthetic.physical import NO_EXECUTE, USER

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
