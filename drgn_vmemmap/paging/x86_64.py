# SPDX-License-Identifier: LGPL-2.1-or-later

"""
x86-64 page-table entries and paging levels, as pure functions on integers.

The bits follow ``arch/x86/include/asm/pgtable_types.h``; what the levels above
an entry take away from its access follows the processor manual (Intel SDM
volume 3, "Determination of Access Rights"; AMD APM volume 2, "Page-Protection
Checks"), with CR0.WP set as Linux always runs.
"""

from __future__ import annotations

from typing import NamedTuple

PAGE_SHIFT = 12
PAGE_SIZE = 1 << PAGE_SHIFT
PHYSICAL_BITS = 52
"""Bits of the longest physical address."""
PFN_LIMIT = 1 << PHYSICAL_BITS - PAGE_SHIFT
"""First PFN after the largest physical memory."""
ENTRY_SIZE = 8
ENTRIES_PER_TABLE = PAGE_SIZE // ENTRY_SIZE

PRESENT = 1 << 0
WRITABLE = 1 << 1
USER = 1 << 2
WRITE_THROUGH = 1 << 3
UNCACHED = 1 << 4
ACCESSED = 1 << 5
DIRTY = 1 << 6
LARGE = 1 << 7
GLOBAL = 1 << 8
SAVED_DIRTY = 1 << 58
"""
Set in read-only leaves that were dirty when they became read-only (``_PAGE_SAVED_DIRTY``, which
``ptep_set_wrprotect()`` sets since v6.6).
"""
NO_EXECUTE = 1 << 63

_PAT = 1 << 7
_LARGE_PAT = 1 << 12
_ATTRIBUTES = PRESENT | WRITABLE | USER | WRITE_THROUGH | UNCACHED | _PAT | NO_EXECUTE

PAGE_KERNEL = PRESENT | WRITABLE | NO_EXECUTE
"""Attributes of a last-level entry with ``PAGE_KERNEL``."""
PAGE_KERNEL_RO = PRESENT | NO_EXECUTE
"""Attributes of a last-level entry with ``PAGE_KERNEL_RO``."""

# The kinds of entries that the kernel makes for its own memory: bits that all entries of a kind
# have, and bits that some of them have.
_OF_KERNEL = (
    # _PAGE_TABLE and _KERNPG_TABLE
    (PRESENT | WRITABLE | ACCESSED | DIRTY, USER),
    # PAGE_KERNEL, and what set_memory_ro(), _uc() and _np() make of it
    (NO_EXECUTE, (PAGE_SIZE - 1) & ~USER | SAVED_DIRTY),
    # PAGE_KERNEL_ROX
    (PRESENT | ACCESSED, DIRTY | LARGE | GLOBAL),
)
_OF_KERNEL_WITHOUT_NX = (
    *_OF_KERNEL,
    (
        PRESENT | ACCESSED,
        WRITABLE | WRITE_THROUGH | UNCACHED | DIRTY | LARGE | GLOBAL | SAVED_DIRTY,
    ),
)

_ADDRESS_MASK = ((1 << PHYSICAL_BITS) - 1) & ~(PAGE_SIZE - 1)


class Level(NamedTuple):
    """One level of the paging hierarchy."""

    name: str
    """The kernel's name for an entry of this level."""
    shift: int
    """log2 of the bytes that one entry covers."""
    may_be_leaf: bool
    """Whether an entry of this level can map memory itself."""

    @property
    def entry_span(self) -> int:
        """Bytes of virtual addresses that one entry covers."""
        return 1 << self.shift

    @property
    def table_span(self) -> int:
        """Bytes of virtual addresses that one table covers."""
        return ENTRIES_PER_TABLE << self.shift

    def entry_index(self, address: int) -> int:
        """Index, in its table, of the entry for a virtual address."""
        return (address >> self.shift) % ENTRIES_PER_TABLE


PTE = Level("PTE", 12, True)
PMD = Level("PMD", 21, True)
PUD = Level("PUD", 30, True)

_LEVELS = {
    4: (Level("PGD", 39, False), PUD, PMD, PTE),
    5: (Level("PGD", 48, False), Level("P4D", 39, False), PUD, PMD, PTE),
}


def levels(paging_levels: int) -> tuple[Level, ...]:
    """
    Levels of the hierarchy, from the root down.

    :param paging_levels: 4 or 5.
    :raises ValueError: for any other depth.
    """
    try:
        return _LEVELS[paging_levels]
    except KeyError:
        raise ValueError(f"x86-64 has no {paging_levels}-level paging") from None


def is_canonical(address: int, paging_levels: int) -> bool:
    """Whether the processor accepts *address* as a virtual address at all."""
    shift = 56 if paging_levels == 5 else 47
    return address >> shift in (0, (1 << 64 - shift) - 1)


class Access(NamedTuple):
    """The access that the processor allows at an address, all levels counted."""

    writable: bool
    user: bool
    executable: bool
    """False, too, on a machine without NX, where nothing can be said of it."""
    global_: bool

    def __str__(self) -> str:
        return "".join(
            letter if on else "-"
            for letter, on in zip("WUXG", (self.writable, self.user, self.executable, self.global_))
        )


ALL_ACCESS = WRITABLE | USER
"""What the levels above the root leave of an entry's access: everything."""


def effective_access(above: int, entry: int) -> int:
    """
    Combine the access that the levels above leave with that of one more entry.

    A level without the write (or user) bit takes it from everything below; a
    level with the no-execute bit gives it to everything below.

    :param above: :data:`ALL_ACCESS`, or the result for the level above.
    :param entry: Raw entry.
    :return: Bits among ``WRITABLE | USER | NO_EXECUTE``.
    """
    return (above & entry & ALL_ACCESS) | ((above | entry) & NO_EXECUTE)


def access(above: int, leaf: int) -> Access:
    """
    Access through a leaf.

    :param above: Result of :func:`effective_access` for the levels above the leaf.
    :param leaf: Raw entry.
    """
    combined = effective_access(above, leaf)
    return Access(
        writable=bool(combined & WRITABLE),
        user=bool(combined & USER),
        executable=not combined & NO_EXECUTE,
        global_=bool(leaf & GLOBAL),
    )


def attributes(entries: bytes, above: int) -> int | None:
    """
    The attributes that some last-level entries have, all levels counted.

    :param entries: Raw entries, 8 bytes each.
    :param above: Result of :func:`effective_access` for the levels above.
    :return: Bits, such as :data:`PAGE_KERNEL`; ``None`` unless all entries have the same.
    """
    first_bytes = entries[::ENTRY_SIZE].translate(_FIRST_BYTE[above & WRITABLE])
    last_bytes = entries[ENTRY_SIZE - 1 :: ENTRY_SIZE].translate(_LAST_BYTE[above & NO_EXECUTE])
    count = len(first_bytes)
    if not count or first_bytes != first_bytes[:1] * count or last_bytes != last_bytes[:1] * count:
        return None
    return first_bytes[0] | last_bytes[0] << 56


# All attributes are in the first and in the last byte of an entry: for each value of such a byte,
# what remains of it below levels that allow writing or not, and execution or not.
_FIRST_BYTE = {
    WRITABLE: bytes(byte & _ATTRIBUTES & 0xFF for byte in range(256)),
    0: bytes(byte & _ATTRIBUTES & 0xFF & ~WRITABLE for byte in range(256)),
}
_LAST_BYTE = {
    0: bytes(byte & NO_EXECUTE >> 56 for byte in range(256)),
    NO_EXECUTE: bytes((NO_EXECUTE >> 56,)) * 256,
}


def unusual_attributes(entry: int, level: Level, access: Access) -> list[str]:
    """
    The attributes of a leaf that the kernel never gives its own data, by the kernel's names.

    :param access: Access through the leaf.
    """
    pat = _PAT if level is PTE else _LARGE_PAT
    bits = ((USER, "USER"), (WRITE_THROUGH, "PWT"), (UNCACHED, "PCD"), (pat, "PAT"))
    names = [name for bit, name in bits if entry & bit]
    return [*names, "no NX"] if access.executable else names


def unusual_table_attributes(entry: int, level: Level) -> list[str]:
    """
    The attributes that the kernel never gives an entry that leads to a table: with them, the
    processor reads the table uncached.
    """
    if level is PTE or entry & (PRESENT | LARGE) != PRESENT:
        return []
    bits = ((WRITE_THROUGH, "PWT"), (UNCACHED, "PCD"))
    return [name for bit, name in bits if entry & bit]


def are_usual(any_bits: int, common_bits: int, level: Level) -> bool:
    """
    Whether leaves have no attributes but those that the kernel gives its own data.

    :param any_bits: The bits that any of them has.
    :param common_bits: The bits that all of them have.
    """
    pat = _PAT if level is PTE else _LARGE_PAT
    return not any_bits & (USER | WRITE_THROUGH | UNCACHED | pat) and bool(common_bits & NO_EXECUTE)


def lacks_no_execute(supported: int) -> bool:
    """
    Whether a machine has no NX, by the mask of the bits that its entries may have.

    :param supported: ``__supported_pte_mask``: on any machine, it has all other bits, but that
        GLOBAL may be missing.
    """
    return supported | GLOBAL == (1 << 64) - 1 & ~NO_EXECUTE


def without_use(entry: int) -> int:
    """A raw entry without the bits that the processor sets when it uses it."""
    return entry & ~(ACCESSED | DIRTY)


def is_present(entry: int) -> bool:
    """Whether an entry maps anything, or leads to a table."""
    return bool(entry & PRESENT)


def wrong_bits(entry: int, addresses: int, has_no_execute: bool = True) -> int:
    """
    How many bits an entry differs by from the nearest that the kernel makes for its own memory.

    Of an entry that is not present, the kernel inverts the address, so that a processor that
    reads ahead finds no memory there (``__pte_needs_invert()``). With PTI, it makes such entries
    over parts of its image that it frees (``free_kernel_image_pages()``).

    :param addresses: Mask of the bits that an entry's physical address may have.
    :param has_no_execute: Whether the machine has NX.
    """
    forms = (entry,) if entry & PRESENT else (entry, entry ^ _ADDRESS_MASK | PRESENT)
    return min(
        bin((every & ~form) | (form & ~(every | some | addresses))).count("1")
        for form in forms
        for every, some in (_OF_KERNEL if has_no_execute else _OF_KERNEL_WITHOUT_NX)
    )


def is_leaf(entry: int, level: Level) -> bool:
    """Whether a present entry of *level* maps memory rather than a table."""
    return level is PTE or (level.may_be_leaf and bool(entry & LARGE))


def is_reserved(entry: int, level: Level) -> bool:
    """
    Whether a present entry sets a bit that must be 0 at its level, so that its use faults.

    A large leaf has none of the address bits below its span, but for PAT in bit 12.
    """
    if level is PTE or not entry & LARGE:
        return False
    below = (level.entry_span - 1) & -PAGE_SIZE & ~_LARGE_PAT
    return not level.may_be_leaf or bool(entry & below)


def address_mask(level: Level, encryption_mask: int) -> int:
    """
    Mask of the physical address in a leaf of *level*.

    Below the address, a large leaf keeps flags such as PAT in bit 12. With AMD
    memory encryption, one address bit says "encrypted" and is no address.

    :param encryption_mask: ``sme_me_mask``, 0 without memory encryption.
    """
    return _ADDRESS_MASK & ~(level.entry_span - 1) & ~encryption_mask


def flag_names(entry: int, level: Level) -> str:
    """The flags of a raw entry by the kernel's names, as ``crash``'s ``vtop`` shows them."""
    names = [
        (PRESENT, "PRESENT"),
        (WRITABLE, "RW"),
        (USER, "USER"),
        (WRITE_THROUGH, "PWT"),
        (UNCACHED, "PCD"),
        (ACCESSED, "ACCESSED"),
        (DIRTY, "DIRTY"),
        (LARGE, "PAT" if level is PTE else "PSE"),
        (GLOBAL, "GLOBAL"),
        (SAVED_DIRTY, "SAVED_DIRTY"),
        (NO_EXECUTE, "NX"),
    ]
    return "|".join(name for bit, name in names if entry & bit) or "none"
