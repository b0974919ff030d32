# SPDX-License-Identifier: LGPL-2.1-or-later

"""Images to be explained, and what is asked of their explanations."""

from __future__ import annotations

import pytest

from drgn_vmemmap.explain.dump.explainer import Explainer
from drgn_vmemmap.explain.dump.explanation import Explanation
from drgn_vmemmap.explain.dump.query import parse
from drgn_vmemmap.hvo.verdict import format_ranges
from tests.synthetic.image import Image
from tests.synthetic.kernels import LINES, ONE_OF_EACH_LAYOUT
from tests.synthetic.model import FIRST_FOLIO, Folio, Machine, Vpage

OPTIMIZED, UNOPTIMIZED = FIRST_FOLIO, FIRST_FOLIO + 512


every_layout = pytest.mark.parametrize("release", ONE_OF_EACH_LAYOUT)


def image(release: str, edits: dict[int, Vpage] | None = None) -> Image:
    folios = (Folio(OPTIMIZED, edits=edits or {}), Folio(UNOPTIMIZED, remapped=False))
    return Image(Machine(line=LINES[release], folios=folios))


def explained(of: Image, what: str) -> Explanation:
    return Explainer.of_program(of.prog).explain(parse(what))


def at(of: Image, pfn: int, offset: int = 0) -> Explanation:
    return explained(of, f"{of.machine.page_address(pfn) + offset:#x}")


def backs(explanation: Explanation) -> list[tuple[int | None, str]]:
    """The folios whose vmemmap the frame backs, and which pages of it."""
    return [(each.folio, format_ranges(each.pages)) for each in explanation.mapping.mappers]
