# SPDX-License-Identifier: LGPL-2.1-or-later

"""HTML reports to be seen: of images, sound and damaged, and of very many folios."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import drgn

from drgn_vmemmap.analysis.report import Report
from drgn_vmemmap.api import examine, samples
from drgn_vmemmap.hugetlb.folio import STATES, FolioClass, Folios, State
from drgn_vmemmap.hvo.folios import FolioReports
from drgn_vmemmap.hvo.verdict import Judgement, Verdict
from drgn_vmemmap.kernel.layout import Layout
from drgn_vmemmap.output.report import View, html
from drgn_vmemmap.rules.finding import Finding, Severity
from tests.synthetic.image import Image
from tests.synthetic.kernels import LINES
from tests.synthetic.model import (
    ABSENT,
    FIRST_FOLIO,
    FRESH_W,
    GIB,
    REUSE_W,
    Damage,
    Folio,
    Link,
    LinkPlace,
    Machine,
    pmd_of,
)

HOSTILE = "</script><img src=x onerror=a>"
"""As long as the name of a hstate can be."""


def page_of(prog: drgn.Program) -> str:
    """The page that ``report --format html`` writes."""
    report = examine(prog)
    return "".join(html.render(report, View(samples=samples(prog, report))))


def damaged(release: str) -> Image:
    """A kernel on which much is wrong: with 2 MiB folios on two nodes, and three of 1 GiB."""
    first, gigantic = FIRST_FOLIO, GIB >> 12
    wrong: Mapping[int, dict[str, Any]] = {
        5: {"edits": {3: REUSE_W}},
        9: {"edits": {2: FRESH_W, 6: ABSENT}},
        20: {"flag": False},
        40: {"state": State.OFF_LIST},
        70: {"head_in_dump": False},
        **{number: {"remapped": False} for number in range(90, 100)},
    }
    folios = [Folio(first + 512 * number, **wrong.get(number, {})) for number in range(100)]
    folios += [
        Folio(gigantic, order=18),
        Folio(2 * gigantic, order=18, edits={17: REUSE_W, 300: ABSENT}),
        Folio(3 * gigantic, order=18, remapped=False),
    ]
    folios += [Folio(4 * gigantic + first + 512 * number) for number in range(64)]
    return Image(
        Machine(
            line=LINES[release],
            nodes=2,
            node_size=4 * GIB,
            folios=tuple(folios),
            damage={pmd_of(gigantic) + 1: Damage.MISSING},
            links={LinkPlace(9, 1, 30): Link.OUTSIDE},
        )
    )


def hostile() -> Image:
    """A dump that names a hstate so that a careless page would run it."""
    image = Image(Machine(folios=(Folio(FIRST_FOLIO),)))
    member = image.types.structs["hstate"].members["name"]
    address = image.physical(image.hstates[9] + member.offset)
    image.memory.write(address, HOSTILE.encode().ljust(32, b"\0"))
    return image


def many(count: int, broken_each: int = 10_000) -> Report:
    """
    A report of very many folios, side by side on two nodes.

    One in a thousand is not optimized.

    :param broken_each: One in so many is broken.
    """
    report = Image(Machine()).examine()
    judgements = {
        Verdict.OPTIMIZED: (Layout.HEAD_REUSE, ((1, 7),), ((1, 7),), 7),
        Verdict.UNOPTIMIZED: (Layout.NONE, (), (), 0),
        Verdict.INCONSISTENT: (Layout.HEAD_REUSE, ((1, 7),), ((1, 2), (4, 7)), 7),
    }
    folios, broken, judged = Folios(), [], []
    for number in range(count):
        verdict = Verdict.OPTIMIZED
        if number % 1000 == 7:
            verdict = Verdict.UNOPTIMIZED
        pfn = FIRST_FOLIO + 512 * number
        if number % broken_each == 77:
            verdict = Verdict.INCONSISTENT
            broken.append(pfn)
        layout, shared, read_only, freed = judgements[verdict]
        frame = None if layout is Layout.NONE else (1 << 30) + number * 7919 % (1 << 24)
        node, state = 2 * number // count, State.FREE if number % 3 else State.ACTIVE
        flag = verdict is not Verdict.UNOPTIMIZED
        kind = folios.class_number(FolioClass(9, "hugepages-2048kB", node, 2, flag))
        folios.add(pfn, kind, STATES.index(state))
        judged.append(Judgement(verdict, layout, "pte", frame, shared, read_only, freed))
    report.folios = FolioReports(folios)
    for row, judgement in enumerate(judged):
        report.folios.set(row, judgement)
    report.findings = [
        Finding("tail-writable", Severity.ERROR, "is writable", pfn, 3, 4096, 3, 4096)
        for pfn in broken
    ] * 10
    return report
