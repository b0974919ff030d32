# SPDX-License-Identifier: LGPL-2.1-or-later

"""A log says the same in whatever form people have it."""

from __future__ import annotations

from typing import Any, Callable

import pytest

from drgn_vmemmap.explain.log.mention import Mention
from drgn_vmemmap.explain.log.reader import find_mentions
from drgn_vmemmap.explain.messages.message import Kind
from drgn_vmemmap.explain.text.read import read_text
from tests.explain.forms import FORMS
from tests.explain.logs import FAULT, LOG, WALK

Record = Callable[[str, Any], None]


def _mention(found: list[Mention], kind: Kind, value: int) -> Mention:
    (mention,) = (each for each in found if (each.kind, each.value) == (kind, value))
    return mention


@pytest.mark.parametrize("name", FORMS)
def test_a_log_says_the_same_in_every_form(name: str, record_property: Record) -> None:
    text = read_text(FORMS[name](LOG))
    assert text.problem is None
    found = find_mentions(text.lines).named
    fault = _mention(found, Kind.FAULT, FAULT)
    assert fault.access == "write"
    assert fault.error_code == 3
    assert fault.walk is not None and fault.walk.entries == WALK
    assert fault.functions[:2] == ["isolate_migratepages_block", "compact_zone"]
    assert fault.registers["CR4"] == 0x771EF0
    page = _mention(found, Kind.PFN, 0x2EC0)
    assert page.details[-1] == "page dumped because: corrupted mapping in tail page"
    assert page.words[:2] == [0x17FFFFC0000000, 0xFFA09B70800B8001]
    assert len(page.words) == 8
    named = {(mention.kind, mention.value) for mention in found}
    assert named == {
        (Kind.FAULT, FAULT),
        (Kind.PFN, 0x2EC0),
        (Kind.PFN, 0x2EC6),
        (Kind.PFN, 0x2ECB),
        (Kind.PHYSICAL, 0x2ECC040),
    }
    assert fault.boot.release == "6.12.117"
    record_property("form", (name, sorted(kind.value for kind, _ in named)))
