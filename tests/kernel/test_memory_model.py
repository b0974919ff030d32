# SPDX-License-Identifier: LGPL-2.1-or-later

"""Where a kernel's image and its sections are, by its symbols, types and VMCOREINFO."""

from __future__ import annotations

import copy
from collections.abc import Mapping

import drgn
import pytest

from drgn_vmemmap import CannotAnalyse
from drgn_vmemmap.kernel import memory_model
from drgn_vmemmap.kernel.discovery import discover
from drgn_vmemmap.kernel.facts import Sections
from drgn_vmemmap.kernel.lookup import IMAGE_BASE, Lookup
from tests.synthetic.debuginfo import section_roots
from tests.synthetic.image import Image
from tests.synthetic.kernels import SECTION_BITS, Struct
from tests.synthetic.model import SECTION_PAGES, Machine


def image_between(**symbols: int) -> range:
    """The image of a kernel that was loaded 16 MiB into memory."""
    prog = drgn.Program(drgn.Platform(drgn.Architecture.X86_64))
    kind = drgn.SymbolBinding.GLOBAL, drgn.SymbolKind.OBJECT
    found = [drgn.Symbol(name, address, 0, *kind) for name, address in symbols.items()]
    prog.register_symbol_finder("test", drgn.SymbolIndex(found), enable_index=0)
    return memory_model.image(Lookup(prog, {"NUMBER(phys_base)": str(16 << 20)}))


def test_the_image_is_from_text_to_end() -> None:
    assert image_between(_text=IMAGE_BASE, _end=IMAGE_BASE + 0x1001) == range(0x1000, 0x1002)
    assert image_between(_text=IMAGE_BASE + 0x2000, _end=IMAGE_BASE + 0x3000) == range(
        0x1002, 0x1003
    )


@pytest.mark.parametrize(
    "symbols",
    (
        {},
        {"_text": IMAGE_BASE},
        {"_end": IMAGE_BASE + 0x1000},
        {"_text": IMAGE_BASE - 1, "_end": IMAGE_BASE + 0x1000},
        {"_text": IMAGE_BASE + 0x1800, "_end": IMAGE_BASE + 0x1800},
        {"_text": IMAGE_BASE + 0x2000, "_end": IMAGE_BASE + 0x1000},
        {"_text": IMAGE_BASE, "_end": IMAGE_BASE + (1 << 30) + 1},
    ),
)
def test_an_image_that_cannot_be_is_not_known(symbols: Mapping[str, int]) -> None:
    assert image_between(**symbols) == range(0)


class WithoutNumbers(Image):
    """A kernel whose VMCOREINFO says nothing of its sections."""

    lines = ("NUMBER(SECTION_SIZE_BITS)=", "LENGTH(mem_section)=")

    @property
    def vmcoreinfo(self) -> str:
        lines = super().vmcoreinfo.splitlines()
        return "\n".join(line for line in lines if not line.startswith(self.lines)) + "\n"


class AnotherSize(Image):
    """A kernel with sections of another size."""

    bits = 0

    @property
    def vmcoreinfo(self) -> str:
        return super().vmcoreinfo.replace(
            "(SECTION_SIZE_BITS)=27", f"(SECTION_SIZE_BITS)={self.bits}"
        )


def sections_of(image: Image, bits: tuple[str, ...] = SECTION_BITS) -> Sections:
    """
    :param bits: The numbers of flags that the kernel's types name.
    """
    image.types = copy.copy(image.types)
    image.types.section_bits = bits
    return discover(image.prog).sections


@pytest.mark.parametrize("levels", (4, 5))
def test_there_are_as_many_pages_of_sections_as_vmcoreinfo_says(levels: int) -> None:
    machine = Machine(levels=levels)
    assert sections_of(Image(machine)).root_count == section_roots(machine)


def test_a_kernel_that_does_not_say_has_one_page_of_sections_of_128_mib() -> None:
    sections = sections_of(WithoutNumbers(Machine()))
    assert (sections.pages, sections.root_count) == (SECTION_PAGES, 1)


@pytest.mark.parametrize("bits", (21, 40))
def test_sections_may_be_of_2_mib_to_1_tib(bits: int) -> None:
    image = AnotherSize(Machine())
    image.bits = bits
    assert sections_of(image).pages == 1 << bits - 12


@pytest.mark.parametrize("bits", (20, 41))
def test_sections_of_another_size_are_damage(bits: int) -> None:
    image = AnotherSize(Machine())
    image.bits = bits
    with pytest.raises(CannotAnalyse, match=f"SECTION_SIZE_BITS is {bits}, which is impossible"):
        sections_of(image)


@pytest.mark.parametrize(
    ("bits", "device", "at_boot"),
    (
        ((), 1 << 4, 0),
        (SECTION_BITS[:4], 0, 0),
        (SECTION_BITS, 1 << 4, 0),
        ((*SECTION_BITS[:4], "IS_VMEMMAP_PREINIT"), 0, 1 << 4),
    ),
    ids=("macros", "no devices", "devices", "optimized at boot"),
)
def test_the_flags_of_sections_are_those_that_the_types_name(
    bits: tuple[str, ...], device: int, at_boot: int
) -> None:
    """Before v6.0 they are macros; later, the kernel's configuration moves them."""
    sections = sections_of(Image(Machine()), bits)
    assert (sections.online, sections.early) == (1 << 2, 1 << 3)
    assert (sections.device, sections.optimized_at_boot) == (device, at_boot)


@pytest.mark.parametrize(("member", "are_counted"), (("usage", True), ("page_ext", False)))
def test_memmap_counters_that_count_page_extensions_too_are_not_compared(
    member: str, are_counted: bool
) -> None:
    image = Image(Machine())
    image.types = copy.copy(image.types)
    size, members = image.types.structs["mem_section"]
    members = {"section_mem_map": members["section_mem_map"], member: members["usage"]}
    image.types.structs = {**image.types.structs, "mem_section": Struct(size, members)}
    assert (discover(image.prog).memmap_counters is not None) is are_counted


@pytest.mark.parametrize("missing", ("nr_memmap_boot_pages", "nr_memmap_pages"))
def test_one_memmap_counter_without_the_other_is_not_compared(missing: str) -> None:
    image = Image(Machine())
    del image.variables[missing]
    assert discover(image.prog).memmap_counters is None
