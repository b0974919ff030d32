# SPDX-License-Identifier: LGPL-2.1-or-later

"""Single entries: their bits, as the processor's manual numbers them, and what a leaf allows."""

from __future__ import annotations

from itertools import product

import pytest

from drgn_vmemmap.paging.leaf import Leaf, leaf_of
from drgn_vmemmap.paging.x86_64 import (
    PMD,
    PTE,
    PUD,
    Level,
    flag_names,
    is_canonical,
    is_reserved,
    levels,
)

BITS = {0: "PRESENT", 1: "RW", 2: "USER", 3: "PWT", 4: "PCD", 5: "ACCESSED", 6: "DIRTY"}
BITS |= {8: "GLOBAL", 58: "SAVED_DIRTY", 63: "NX"}


@pytest.mark.parametrize("bit", range(64))
def test_a_bit_has_the_name_that_the_kernel_gives_it(bit: int) -> None:
    assert flag_names(1 << bit, PTE) == BITS.get(bit, "PAT" if bit == 7 else "none")
    assert flag_names(1 << bit, PMD) == BITS.get(bit, "PSE" if bit == 7 else "none")


@pytest.mark.parametrize(("level", "shift"), ((PMD, 21), (PUD, 30)))
def test_a_large_leaf_has_no_address_bits_below_its_span_but_pat(level: Level, shift: int) -> None:
    leaf = 1 << 7 | 0b11 | 1 << shift
    assert [bit for bit in range(64) if is_reserved(leaf | 1 << bit, level)] == [*range(13, shift)]
    assert not any(is_reserved(0b11 | 1 << bit, PTE) for bit in range(64))


@pytest.mark.parametrize(("present", "writable", "executable"), [*product((True, False), repeat=3)])
def test_a_leaf_allows_what_its_bits_say(present: bool, writable: bool, executable: bool) -> None:
    leaf = Leaf("PTE", present, writable, executable, 0x1234)
    assert leaf.allows("read") is present
    assert leaf.allows("write") is (present and writable)
    assert leaf.allows("instruction fetch") is (present and executable)


def test_a_leaf_may_be_written_only_if_each_level_allows_it() -> None:
    table, page = 0x1000 | 0b11, 0x5000 | 0b11
    for read_only in range(4):
        entries = [("PGD", table), ("PUD", table), ("PMD", table), ("PTE", page)]
        name, raw = entries[read_only]
        assert (leaf_of(entries, 0) or Leaf("", False, False, False, None)).writable
        entries[read_only] = name, raw & ~0b10
        leaf = leaf_of(entries, 0)
        assert leaf is not None and (leaf.present, leaf.writable, leaf.frame) == (True, False, 5)


def test_a_leaf_may_be_executed_only_if_each_level_allows_it() -> None:
    for forbidding in (None, *range(4)):
        entries = [(name, 0x1000 | 0b11) for name in ("PGD", "PUD", "PMD", "PTE")]
        if forbidding is not None:
            entries[forbidding] = entries[forbidding][0], 1 << 63 | 0x1000 | 0b11
        leaf = leaf_of(entries, 0)
        assert leaf is not None and leaf.executable is (forbidding is None)


@pytest.mark.parametrize(("levels", "bits"), ((4, 47), (5, 56)))
def test_a_canonical_address_repeats_its_highest_bit(levels: int, bits: int) -> None:
    lower, upper = (1 << bits) - 1, (1 << 64) - (1 << bits)
    assert all(is_canonical(address, levels) for address in (0, lower, upper, (1 << 64) - 1))
    assert not any(is_canonical(address, levels) for address in (lower + 1, upper - 1))


@pytest.mark.parametrize("depth", (3, 6))
def test_x86_64_has_four_levels_or_five(depth: int) -> None:
    with pytest.raises(ValueError, match=f"no {depth}-level paging"):
        levels(depth)
