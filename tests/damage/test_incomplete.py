# SPDX-License-Identifier: LGPL-2.1-or-later

"""
Incomplete is not broken: frames are taken out of the dumps of sound kernels, at random.

Seeded, so that a red run can be repeated: the seed is in the name of the test.
"""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any, Callable

import pytest

from drgn_vmemmap.analysis.document import document
from drgn_vmemmap.analysis.report import Report
from drgn_vmemmap.errors import MissingFacts
from drgn_vmemmap.hugetlb.folio import State
from drgn_vmemmap.kernel.layout import Layout
from drgn_vmemmap.rules.finding import Severity
from tests.damage.edited import EditedKernel
from tests.support import VMCORES, open_vmcore
from tests.synthetic.image import Image
from tests.synthetic.kernels import LINES
from tests.synthetic.model import FIRST_FOLIO, GIB, OWN_W, SECTION_PAGES, Folio, Machine, Section
from tests.synthetic.physical import PAGE_SHIFT

CASES = int(os.environ.get("VMEMMAP_EXAMPLES", "12"))
"""For each kernel."""
SIZES = (1, 1, 1, 2, 2, 3, 5, 8, 30)
"""How many frames of one kind are taken out."""


class SoundKernel(EditedKernel):
    """A sound kernel whose dump loses frames."""

    def __init__(self, edited: EditedKernel) -> None:
        self.__dict__.update(edited.__dict__)
        self.report_before = self.analyse()
        sizes: dict[int, set[int]] = {}
        for address, size in self.memory.reads:
            frames = range(address >> PAGE_SHIFT, (address + size - 1 >> PAGE_SHIFT) + 1)
            sizes.setdefault(size, set()).update(frames)
        self.frames = sorted(set().union(*sizes.values()))
        """Frames that an analysis reads."""
        kinds = [*sizes.values(), set(self.heads()), set(self.of_sections()), set(self.of_zones())]
        self.kinds = [sorted(kind) for kind in kinds if kind]
        """Those that it reads in one size, such as page tables; and those that matter most."""

    def heads(self) -> Iterator[int]:
        """Frames of the folios' head pages."""
        for folio, _ in self.before.folios:
            yield self.frame(folio.pfn, 0)

    def of_sections(self) -> Iterator[int]:
        """Frames of the first page of sections, and of the first pointers to such pages."""
        roots = self.kernel.sections.roots
        yield self.frame_at(roots)
        yield self.frame_at(int.from_bytes(self.snapshot().read(roots, 8), "little"))

    def of_zones(self) -> Iterator[int]:
        """Frames of what zones keep for shared tails."""
        for address in self.kernel.zones.values():
            yield self.frame_at(address + self.kernel.zone.offset("vmemmap_tails"))

    def frame_at(self, address: int) -> int:
        frame = self.walker().entry(address).frame
        assert frame is not None
        return frame

    def lose(self, source: random.Random) -> None:
        """Take frames out of the dump: some of a few kinds, or all from one on, as if truncated."""
        self.reset()
        if source.random() < 0.1:
            self.memory.missing.update(self.frames[source.randrange(len(self.frames)) :])
            return
        for _ in range(source.choice((1, 1, 2, 3))):
            frames = source.choice(self.kinds)
            count = min(source.choice(SIZES), len(frames))
            self.memory.missing.update(source.sample(frames, count))


def image(release: str) -> Image:
    """A machine with something of everything that its kernel can have."""
    line = LINES[release]
    has_hvo = line.layout is not Layout.NONE
    giant = GIB >> PAGE_SHIFT
    folios = [
        *(Folio(FIRST_FOLIO + 512 * number, remapped=has_hvo) for number in range(4)),
        Folio(FIRST_FOLIO + 512 * 4, remapped=False),
        Folio(FIRST_FOLIO + 512 * 5, remapped=has_hvo, state=State.ACTIVE),
        Folio(FIRST_FOLIO + 512 * 6, remapped=has_hvo, state=State.OFF_LIST),
        # In flight.
        Folio(
            FIRST_FOLIO + 512 * 7,
            remapped=has_hvo,
            state=State.OFF_LIST,
            edits={6: OWN_W, 7: OWN_W},
            counted=False,
        ),
        Folio(giant, 18, remapped=has_hvo),
        Folio(4 * giant, 18, remapped=has_hvo, state=State.ACTIVE),
        Folio(3 * giant + FIRST_FOLIO, remapped=has_hvo),
    ]
    sections = {5: Section.DEVICE, 6: Section.OFFLINE}
    if line.hosts_memmap:
        sections |= {7: Section.HOST, 4: Section.OFFLINE_HOST}
    assert all(folio.pfn // SECTION_PAGES not in sections for folio in folios)
    machine = Machine(
        line=line, nodes=2, node_size=3 * GIB, folios=tuple(folios), sections=sections
    )
    return Image(machine)


@cache
def kernel(name: str) -> SoundKernel:
    prog = image(name).prog if name in LINES else open_vmcore(name)
    return SoundKernel(EditedKernel(prog))


def facts(report: Report) -> dict[str, Any]:
    """All that a report says, but for what it could not read."""
    known = document(report, folios=True)
    known["findings"] = [f for f in known["findings"] if f["rule"] != "unreadable"]
    return known


def accusations(report: Report) -> list[str]:
    """What a report says is broken, or does not add up."""
    return [
        f"{finding.rule}: {finding.message}"
        for finding in report.findings
        if finding.severity is not Severity.INFO and finding.rule != "unreadable"
    ]


NAMES: Sequence[str] = (*LINES, *(path.stem for path in VMCORES))


@pytest.mark.parametrize("name", NAMES)
def test_a_sound_kernel_is_not_accused_for_what_its_dump_lacks(
    name: str, record_property: Callable[[str, object], None]
) -> None:
    sound = kernel(name)
    sound.reset()
    complete = {False: facts(sound.analyse()), True: facts(sound.check())}
    assert accusations(sound.before) == []
    source = random.Random(f"incomplete {name}")
    answers: Counter[str] = Counter()
    for number in range(CASES):
        sound.lose(source)
        for verified, run in ((False, sound.analyse), (True, sound.check)):
            try:
                report = run()
            except MissingFacts:
                answers["2"] += 1
                continue
            lost = [hex(frame) for frame in sorted(sound.memory.missing)][:20]
            assert accusations(report) == [], (number, lost)
            if facts(report) != complete[verified]:
                assert report.incomplete, (number, lost)
            answers["3" if report.incomplete else "0"] += 1
    sound.reset()
    record_property("incomplete", dict(answers))


@pytest.mark.parametrize("name", ("6.1.0", "6.12.0", "7.2.0", "head-reuse", "two-nodes-1GiB"))
def test_folios_and_devices_that_no_section_shows_are_not_accused(name: str) -> None:
    sound = kernel(name)
    sound.reset()
    # The first of these frames points to the pages of sections, the second is such a page.
    _, sections = sound.of_sections()
    sound.memory.missing.update((sections, sound.frame(sound.optimized[1], 0)))
    report = sound.check()
    sound.reset()
    assert accusations(report) == []
    assert report.incomplete
