# SPDX-License-Identifier: LGPL-2.1-or-later

"""The known facts of a boot: enough to see whether a log and a dump are of the same boot."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import drgn

from drgn_vmemmap.explain.messages.architectures import OTHER, architecture_of_release
from drgn_vmemmap.explain.regions import MOVED_END
from drgn_vmemmap.explain.struct_page import (
    STRUCT_PAGE_SIZE,
    base_from_tail,
    is_tail,
    order_of_mask,
)
from drgn_vmemmap.kernel.vmcoreinfo import vmcoreinfo
from drgn_vmemmap.paging.x86_64 import is_canonical

# CONFIG_RANDOMIZE_MEMORY moves the vmemmap by multiples of this.
BASE_ALIGNMENT = 1 << 30

# Bits of a PFN, by levels of the page tables: of memory, x86-64 has at most 64 TiB or 4 PiB.
_PFN_BITS = {4: 34, 5: 40}

# Dashes and underscores are the same in a parameter's name (parameq() of kernel/params.c).
_HVO_PARAMETER = re.compile(r"hugetlb[-_]free[-_]vmemmap(?:=(.*))?", re.ASCII)

# CR4.LA57: the page tables have five levels.
_LA57 = 1 << 12


def levels_of_cr4(cr4: int) -> int:
    """Levels of the page tables, by a processor's CR4."""
    return 5 if cr4 & _LA57 else 4


def levels_of_walk(pgd: int, p4d: int) -> int:
    """
    Levels of the page tables, by entries of a logged walk.

    With four levels, the kernel logs the PGD a second time as P4D.
    """
    return 4 if pgd == p4d else 5


@dataclass
class Boot:
    """A boot, as a log or a dump describes it; ``None`` where it does not."""

    release: str | None = None
    kernel_offset: int | None = None
    """How far KASLR moved the kernel, in bytes; 0 where it is disabled, or moved it nowhere."""
    kaslr_is_disabled: bool = False
    """Whether a line says so."""
    build_id: str | None = None
    command_line: str | None = None
    vmemmap: int | None = None
    """Address of PFN 0's struct page."""
    levels: int | None = None
    """Levels of the page tables: 4 or 5."""
    architecture: str | None = None
    """An architecture other than x86-64, by its name, if a line is of one."""
    is_x86_64: bool = False
    """Whether a line is of x86-64."""

    @classmethod
    def of_program(cls, prog: drgn.Program) -> Boot:
        """
        The boot of a dump, or of a kernel that runs.

        :raises CannotAnalyse: if the program is no x86-64 Linux kernel.
        """
        return cls.of_vmcoreinfo(vmcoreinfo(prog))

    @classmethod
    def of_vmcoreinfo(cls, vmcoreinfo: Mapping[str, str]) -> Boot:
        """The boot that wrote a VMCOREINFO."""
        offset = vmcoreinfo.get("KERNELOFFSET", "")
        levels = {"0": 4, "1": 5}
        return cls(
            release=vmcoreinfo.get("OSRELEASE"),
            kernel_offset=int(offset, 16) if re.fullmatch("[0-9a-f]{1,16}", offset) else None,
            build_id=vmcoreinfo.get("BUILD-ID"),
            levels=levels.get(vmcoreinfo.get("NUMBER(pgtable_l5_enabled)", "")),
        )

    def add_struct_page(self, address: int, pfn: int) -> None:
        """Learn the vmemmap's base from a struct page's address and its PFN."""
        self.vmemmap = _base(address, pfn) or self.vmemmap

    def has_other_vmemmap(self, address: int, pfn: int) -> bool:
        """Whether the struct page of a PFN, at an address, is certainly of another boot."""
        return _differ(self.vmemmap, _base(address, pfn))

    def add_tail(self, pfn: int, link: int) -> None:
        """Learn the vmemmap's base from a tail's PFN and its pointer to its head."""
        if self.vmemmap is None and is_tail(link) and order_of_mask(link) is None:
            self.vmemmap = base_from_tail(pfn, link, BASE_ALIGNMENT)

    @property
    def other_architecture(self) -> str | None:
        """The architecture, by its name, if it is another one than x86-64."""
        return None if self.is_x86_64 else self.architecture

    def add_release(self, release: str) -> None:
        """Learn the release, and the architecture that it may name."""
        self.release = self.release or release
        name = architecture_of_release(release)
        if name is not None:
            self.add_architecture(name)

    def add_architecture(self, name: str) -> None:
        """Learn the architecture; a name replaces :data:`OTHER`."""
        if self.architecture in (None, OTHER):
            self.architecture = name

    @property
    def memory_is_fixed(self) -> bool:
        """Whether KASLR is known to be off, so that it moved no region of memory."""
        return self.kaslr_is_disabled or "nokaslr" in self._parameters()

    @property
    def hvo_at_boot(self) -> bool | None:
        """Whether the command line switched HVO on; ``None`` if that is not known."""
        switches = [
            _as_boolean("1" if match[1] is None else match[1].strip('"'))
            for match in map(_HVO_PARAMETER.fullmatch, self._parameters())
            if match is not None
        ]
        return switches[-1] if switches else None

    def _parameters(self) -> list[str]:
        """The kernel's parameters; those after two dashes are the init process's."""
        words = (self.command_line or "").split()
        return words[: words.index("--")] if "--" in words else words

    def pfn_at(self, address: int) -> int | None:
        """
        The PFN whose struct page is at an address.

        :return: ``None`` if the base is not known, or the address is outside the vmemmap.
        """
        if self.vmemmap is None or address >= MOVED_END:
            return None
        pfn = (address - self.vmemmap) // STRUCT_PAGE_SIZE
        has_five = self.levels == 5 or not is_canonical(self.vmemmap, 4)
        return pfn if 0 <= pfn < 1 << _PFN_BITS[5 if has_five else 4] else None

    def has_other_release(self, release: str) -> bool:
        """Whether a release is certainly of another kernel."""
        return self.release is not None and not _agree(self.release, release)

    def has_other_offset(self, offset: int) -> bool:
        """Whether an offset is certainly of another boot."""
        return _differ(self.kernel_offset, offset)

    def has_other_levels(self, levels: int | None) -> bool:
        """Whether page tables with so many levels are certainly of another boot."""
        return _differ(self.levels, levels)

    def difference(self, other: Boot) -> str | None:
        """
        Why this is another boot, in words that name both.

        :param other: The dump's.
        :return: ``None`` if nothing says that it is another one.
        """
        if self.build_id and other.build_id and self.build_id != other.build_id:
            return f"the log's kernel has build ID {self.build_id}, the dump's {other.build_id}"
        if self.release and other.release and not _agree(self.release, other.release):
            return f"the log's kernel is {self.release}, the dump's {other.release}"
        if _differ(self.kernel_offset, other.kernel_offset):
            return (
                f"the log's Kernel Offset is {self.kernel_offset:#x}, "
                f"the dump's {other.kernel_offset:#x}"
            )
        if _differ(self.levels, other.levels):
            return f"the log's page tables have {self.levels} levels, the dump's {other.levels}"
        if _differ(self.vmemmap, other.vmemmap):
            return (
                f"the log's vmemmap begins at {self.vmemmap:#x}, the dump's at {other.vmemmap:#x}"
            )
        return None


def _differ(one: int | None, other: int | None) -> bool:
    """Whether two numbers are both known, and not the same."""
    return None not in (one, other) and one != other


def _base(address: int, pfn: int) -> int | None:
    """Where the vmemmap begins in which the struct page of a PFN is at an address."""
    # Below the vmemmap, page_to_pfn() is negative.
    base = (address - pfn * STRUCT_PAGE_SIZE) % (1 << 64)
    return base if base >> 63 and base % BASE_ALIGNMENT == 0 else None


def _as_boolean(value: str) -> bool | None:
    """A value that ``kstrtobool()`` of ``lib/kstrtox.c`` takes in all kernels; newer take more."""
    text = value.lower()
    if text[:1] in ("y", "1") or text[:2] == "on":
        return True
    return False if text[:1] in ("n", "0") or text[:2] == "of" else None


def _agree(one: str, other: str) -> bool:
    """Whether two releases may be of one kernel: people cut what a distribution adds."""
    short, long = sorted((one, other), key=len)
    return long.startswith(short) and (long == short or not long[len(short)].isalnum())
