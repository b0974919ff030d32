# SPDX-License-Identifier: LGPL-2.1-or-later

"""Folios with failed memory, on a recorded kernel: which of their pages, as the kernel has it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from drgn import Program, Type, TypeKind, TypeKindSet

from drgn_vmemmap import verify
from drgn_vmemmap.explain.dump.explainer import Explainer
from drgn_vmemmap.explain.dump.query import parse
from drgn_vmemmap.hugetlb.folio import State
from drgn_vmemmap.kernel.page_names import page_names
from drgn_vmemmap.output.explanation import text
from tests.damage.edited import EditedKernel
from tests.support import shared_vmcore
from tests.synthetic.image import Image
from tests.synthetic.kernels import LINES, OPTIMIZED_BIT, UNRELIABLE_BIT, Mark
from tests.synthetic.model import FIRST_FOLIO, Folio, Machine


@pytest.fixture
def kernel() -> EditedKernel:
    return EditedKernel(shared_vmcore("head-reuse"))


def poison(kernel: EditedKernel, pfn: int, failed: list[int], unreliable: bool = False) -> str:
    """Mark a folio as poisoned, with a list of failed pages; the message about it."""
    facts = kernel.kernel.poison
    assert facts.list is not None and facts.unreliable_bit is not None
    head = kernel.snapshot().struct_pages(pfn)
    flags = kernel.kernel.page.value(head, "flags")
    private = kernel.kernel.page.value(head, "private")
    kernel.write_member(pfn, "flags", flags | facts.flag)
    kernel.write_member(pfn, "private", private | unreliable << facts.unreliable_bit)
    # The list's entries are written over a tail that stands for no metadata of the folio.
    geometry = kernel.snapshot().geometry
    place = geometry.address(pfn) + 8 * geometry.struct_size
    pointers = [place + number * facts.page.size for number in range(len(failed))]
    kernel.write(geometry.address(pfn) + facts.list.offset, pointers[0] if pointers else 0)
    for pointer, page, following in zip(pointers, failed, [*pointers[1:], 0]):
        kernel.write(pointer + facts.page.offset("next"), following)
        kernel.write(pointer + facts.page.offset("page"), geometry.address(page))
    (message,) = (f.message for f in kernel.analyse().findings if f.rule == "poisoned")
    return message


@pytest.mark.parametrize(
    ("release", "tail"), (("6.1.0", 4), ("6.6.0", 2), ("6.12.0", 2), ("7.2.0", 2), ("coming", 3))
)
def test_the_failed_pages_are_named_on_each_line_of_kernels(release: str, tail: int) -> None:
    image = Image(Machine(line=LINES[release], folios=(Folio(FIRST_FOLIO, remapped=False),)))
    failed = FIRST_FOLIO + 7
    kernel = EditedKernel(image.prog)
    assert kernel.kernel.poison.list is not None
    assert kernel.kernel.poison.list.offset == tail * 64 + 40
    assert poison(kernel, FIRST_FOLIO, [failed]) == (f"memory failed at PFN {failed:#x}")


def test_a_kernel_that_keeps_no_list_of_failed_pages_is_said_to_keep_none() -> None:
    image = Image(Machine(line=LINES["5.18.0"], folios=(Folio(FIRST_FOLIO),)))
    image.write_page(FIRST_FOLIO, flags=image.memmap.flags(FIRST_FOLIO, "PG_head", "PG_hwpoison"))
    (message,) = (f.message for f in image.examine().findings if f.rule == "poisoned")
    assert message.startswith("memory failed; this kernel keeps no list of failed pages")


def test_v6_1_keeps_the_list_in_the_tail_after_those_of_the_cgroups() -> None:
    image = Image(Machine(line=LINES["6.1.0"], folios=(Folio(FIRST_FOLIO),)))
    image.write_page(FIRST_FOLIO, flags=image.memmap.flags(FIRST_FOLIO, "PG_head", "PG_hwpoison"))
    # A tail that carries nothing has room for an entry of the list.
    place = image.machine.page_address(FIRST_FOLIO + 9)
    image.write_page(FIRST_FOLIO + 4, private=place)
    kernel = EditedKernel(image.prog)
    assert kernel.kernel.poison.list is not None
    assert kernel.kernel.poison.list.offset == 4 * 64 + 40
    kernel.write(place, 0)
    kernel.write(place + 8, image.machine.page_address(FIRST_FOLIO + 300))
    (message,) = (f.message for f in kernel.analyse().findings if f.rule == "poisoned")
    assert message.startswith(f"memory failed at PFN {FIRST_FOLIO + 300:#x}; the folio is optim")


def test_a_list_under_an_unknown_name_is_not_looked_for_where_it_once_was() -> None:
    image = Image(Machine(line=LINES["coming"], folios=(Folio(FIRST_FOLIO),)))

    def find(prog: Program, kinds: TypeKindSet, name: str, filename: str | None) -> Type | None:
        if name != "folio" or TypeKind.STRUCT not in kinds:
            return None
        folio = image.types.find(prog, kinds, name, filename)
        assert folio is not None
        members = [member for member in folio.members if member.name != "hugetlb_hwpoison"]
        return prog.struct_type("folio", folio.size, members)

    image.prog.register_type_finder("another folio", find, enable_index=0)
    image.write_page(FIRST_FOLIO, flags=image.memmap.flags(FIRST_FOLIO, "PG_head", "PG_hwpoison"))
    (message,) = (f.message for f in image.examine().findings if f.rule == "poisoned")
    assert message.startswith("memory failed; it is not known where this kernel keeps the list")


def with_unknown_failures(release: str, state: State, counted: bool) -> Image:
    """A folio of which the kernel does not know what failed, beside one that is sound."""
    folio = Folio(FIRST_FOLIO + 512, state=state, counted=counted)
    image = Image(Machine(line=LINES[release], folios=(Folio(FIRST_FOLIO), folio)))
    mark_as_unreliable(image, folio.pfn)
    return image


def mark_as_unreliable(image: Image, pfn: int) -> None:
    """Memory of a folio failed, and the kernel could not record where."""
    flags = image.memmap.flags(pfn, "PG_head", "PG_hwpoison")
    image.write_page(pfn, flags=flags, private=1 << OPTIMIZED_BIT | 1 << UNRELIABLE_BIT)


@pytest.mark.parametrize("release", ("6.1.0", "6.6.0", "6.12.0", "7.2.0"))
def test_a_folio_that_is_leaked_on_purpose_is_not_in_flight(release: str) -> None:
    image = with_unknown_failures(release, State.OFF_LIST, counted=False)
    if LINES[release].mark is Mark.DESTRUCTOR:
        image.write_page(FIRST_FOLIO + 513, compound_dtor=0)
    report = verify(image.prog)
    assert [f.rule for f in report.findings] == ["poisoned"]
    assert report.findings[0].message == (
        "memory failed; not all failed pages are recorded (HPG_raw_hwp_unreliable); "
        "the folio left its pool, and the kernel leaks it on purpose"
    )


def test_of_a_folio_in_flight_it_is_not_said_that_it_stays_in_its_pool() -> None:
    image = with_unknown_failures("6.12.0", State.OFF_LIST, counted=False)
    image.write_page(FIRST_FOLIO + 512, private=1 << OPTIMIZED_BIT)
    messages = {f.rule: f.message for f in verify(image.prog).findings}
    assert messages["poisoned"] == "memory failed; the list of its failed pages is empty"
    assert "not counted" in messages["in-flight"]


def test_where_one_of_two_is_not_counted_it_is_not_known_that_one_is_leaked() -> None:
    leaked = with_unknown_failures("6.12.0", State.OFF_LIST, counted=False)
    other = Folio(FIRST_FOLIO + 1024, state=State.OFF_LIST)
    image = Image(replace(leaked.machine, folios=(*leaked.machine.folios, other)))
    mark_as_unreliable(image, FIRST_FOLIO + 512)
    poisoned, *off_list = verify(image.prog).findings
    assert poisoned.rule == "poisoned"
    assert poisoned.message.endswith("; if the folio left its pool, the kernel leaks it on purpose")
    assert [(f.rule, f.folio) for f in off_list] == [
        ("off-list", FIRST_FOLIO + 512),
        ("off-list", FIRST_FOLIO + 1024),
    ]


def test_a_folio_whose_memory_did_not_fail_is_not_leaked() -> None:
    image = with_unknown_failures("6.12.0", State.OFF_LIST, counted=False)
    image.write_page(FIRST_FOLIO + 512, flags=image.memmap.flags(FIRST_FOLIO + 512, "PG_head"))
    assert [f.rule for f in verify(image.prog).findings] == ["in-flight"]


@pytest.mark.parametrize("state", State, ids=lambda state: state.value)
def test_a_folio_that_is_counted_is_not_leaked(state: State) -> None:
    findings = verify(with_unknown_failures("6.12.0", state, counted=True).prog).findings
    (message,) = (f.message for f in findings if f.rule == "poisoned")
    assert message.endswith("it stays in its pool until its vmemmap is restored")
    assert ("off-list" in {f.rule for f in findings}) is (state is State.OFF_LIST)


def test_the_failed_pages_of_a_folio_are_named(kernel: EditedKernel) -> None:
    assert poison(kernel, 0x2E00, [0x2EC5, 0x2E07]) == (
        "memory failed at PFN 0x2e07, 0x2ec5; the folio is optimized: "
        "it stays in its pool until its vmemmap is restored"
    )


def test_that_not_all_of_them_are_recorded_is_said(kernel: EditedKernel) -> None:
    assert "HPG_raw_hwp_unreliable" in poison(kernel, 0x2E00, [0x2EC5], unreliable=True)


def test_a_page_of_another_folio_is_no_failed_page_of_this_one(kernel: EditedKernel) -> None:
    message = poison(kernel, 0x2E00, [0x2EC5, 0x3000])
    assert message.startswith("memory failed at PFN 0x2ec5; the list of failed pages is damaged")


def test_a_list_that_leads_in_a_circle_ends(kernel: EditedKernel) -> None:
    message = poison(kernel, 0x2E00, [0x2EC5, 0x2EC5])
    assert "the list of failed pages is damaged" in message


def test_an_empty_list_is_called_that(kernel: EditedKernel) -> None:
    assert "the list of its failed pages is empty" in poison(kernel, 0x2E00, [])


def test_poison_is_no_fault_of_hvo(kernel: EditedKernel) -> None:
    poison(kernel, 0x2E00, [0x2EC5])
    report = kernel.analyse()
    assert not report.broken and not report.incomplete


def test_a_page_that_failed_is_explained_as_one(kernel: EditedKernel) -> None:
    poison(kernel, 0x2E00, [0x2EC5])
    explainer = Explainer(kernel.snapshot(), page_names(kernel.prog))
    failed, beside = (text(explainer.explain(parse(f"pfn:{pfn:#x}"))) for pfn in (0x2EC5, 0x2E00))
    for explained in failed, beside:
        assert "of this folio, memory failed at PFN 0x2ec5" in explained
    assert "PFN 0x2ec5 is one that failed" in failed
    assert "is one that failed" not in beside
