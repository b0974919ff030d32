# SPDX-License-Identifier: LGPL-2.1-or-later

"""Kernels that are not known: what was not recognised is named, and nobody is accused."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import pytest

from drgn_vmemmap import CannotAnalyse, verify
from drgn_vmemmap.hugetlb.folio import State
from drgn_vmemmap.rules.finding import Severity
from tests.synthetic.image import Image
from tests.synthetic.kernels import LINES, ONE_OF_EACH_LAYOUT, Struct, types
from tests.synthetic.model import FIRST_FOLIO, Folio, Machine

FOLIOS = (
    Folio(FIRST_FOLIO),
    Folio(FIRST_FOLIO + 512, state=State.ACTIVE),
    Folio(FIRST_FOLIO + 1024, remapped=False),
)


def names(release: str) -> Iterator[tuple[str, str]]:
    """All names by which a kernel is known: structures' members, enumerators, variables."""
    machine = Machine(line=LINES[release])
    known = types(release, machine.page_size, machine.max_nodes)
    for name, struct in known.structs.items():
        yield from ((f"struct {name}", member) for member in struct.members)
    for name, enumerators in known.enums.items():
        yield from ((f"enum {name}", enumerator) for enumerator in enumerators)
    yield from (("", variable) for variable in Image(machine).variables)


def renamed(release: str, where: str, name: str) -> Image:
    """A kernel that calls one thing by a name that is not known."""
    image = Image(Machine(line=LINES[release], folios=FOLIOS))
    image.types = copy.copy(image.types)
    kind, _, type_name = where.partition(" ")
    if kind == "struct":
        size, members = image.types.structs[type_name]
        changed = {f"new_{key}" if key == name else key: item for key, item in members.items()}
        image.types.structs = {**image.types.structs, type_name: Struct(size, changed)}
    elif kind == "enum":
        enumerators = dict(image.types.enums[type_name])
        enumerators[f"NEW_{name}"] = enumerators.pop(name)
        image.types.enums = {**image.types.enums, type_name: enumerators}
    else:
        image.variables[f"new_{name}"] = image.variables.pop(name)
    return image


NAMES = [
    (release, *name)
    for release in ONE_OF_EACH_LAYOUT
    for name in names(release)
    # Until v5.17, HVO's switch is all that shows that there is HVO.
    if name != ("", "hugetlb_free_vmemmap_enabled")
]


@pytest.mark.parametrize(("release", "where", "name"), NAMES)
def test_a_kernel_with_a_new_name_is_reported_on_or_refused_by_that_name(
    release: str, where: str, name: str
) -> None:
    try:
        report = verify(renamed(release, where, name).prog)
    except CannotAnalyse as error:
        assert name in str(error)
        assert len(str(error).splitlines()) == 1
    else:
        wrong = [finding for finding in report.findings if finding.severity is not Severity.INFO]
        assert (len(report.folios), wrong) == (3, [])


@pytest.mark.parametrize("type_name", ("hstate", "folio", "pglist_data"))
def test_a_kernel_without_a_structure_is_refused_by_its_name(type_name: str) -> None:
    image = Image(Machine(line=LINES["7.2.0"], folios=FOLIOS))
    image.types = copy.copy(image.types)
    image.types.structs = {k: v for k, v in image.types.structs.items() if k != type_name}
    with pytest.raises(CannotAnalyse, match=f"this kernel has no struct {type_name}: "):
        verify(image.prog)


@pytest.mark.parametrize(
    ("release", "where", "name"),
    (("6.12.0", "", "hugetlb_optimize_vmemmap_key"), ("7.2.0", "struct zone", "vmemmap_tails")),
)
def test_a_layout_that_is_not_known_is_not_judged(release: str, where: str, name: str) -> None:
    with pytest.raises(CannotAnalyse, match="has a layout that is not known"):
        verify(renamed(release, where, name).prog)
