# SPDX-License-Identifier: LGPL-2.1-or-later

"""A recorded kernel in memory: with words of it damaged, or with another VMCOREINFO."""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Iterable, Sequence
from functools import cached_property
from unittest import mock

import drgn
from drgn.helpers.linux.kallsyms import load_vmlinux_kallsyms

from drgn_vmemmap.kernel.discovery import discover
from drgn_vmemmap.target.btf import Btf, Record
from drgn_vmemmap.target.memory import ProgramMemory
from drgn_vmemmap.target.recorded_pages import guarded
from drgn_vmemmap.target.types import btf_addresses
from drgn_vmemmap.vmemmap.snapshot import Snapshot
from tests.fuzz import answers
from tests.support import open_vmcore

_PAGE_SHIFT = 12

_EDIT = struct.Struct("<HHB3xQ")
"""Number of a read, number of a word in it, what to do with the word, and a value."""

_WRITE, _FLIP, _COPY, _MISS = range(4)


class RecordedKernel:
    """The physical memory of a recorded vmcore, of which words can be damaged."""

    def __init__(self, name: str, commands: Iterable[tuple[str, ...]]) -> None:
        """
        :param commands: What the words that can be damaged are read by.
        """
        self._prog = open_vmcore(name)
        self._read_recorded = guarded(self._prog)
        self._commands = list(commands)
        self._pieces: dict[tuple[int, int], bytes] = {}
        self._words: dict[int, int] = {}
        self._missing: set[int] = set()
        self.vmcoreinfo = bytes(self._prog["VMCOREINFO"].string_())

    def program(self, vmcoreinfo: bytes | None = None) -> drgn.Program:
        """
        The kernel, as it is damaged now.

        :param vmcoreinfo: In place of its own.
        """
        prog = drgn.Program(self._prog.platform)
        prog.add_memory_segment(0, 1 << 52, self._read, physical=True)
        own = self.vmcoreinfo if vmcoreinfo is None else vmcoreinfo
        prog.set_linux_kernel_custom(own, False)
        return prog

    def _read(self, address: int, size: int, offset: int, physical: bool) -> bytes:
        end = address + size
        if any(
            pfn << _PAGE_SHIFT < end and pfn + 1 << _PAGE_SHIFT > address for pfn in self._missing
        ):
            raise drgn.FaultError("not in the dump", address)
        data = bytearray(self._piece(address, size))
        for place, word in self._words.items():
            if address - 8 < place < end:
                start = place - address
                value = word.to_bytes(8, "little")[max(0, -start) : max(0, size - start)]
                data[max(0, start) : max(0, start) + len(value)] = value
        return bytes(data)

    def _piece(self, address: int, size: int) -> bytes:
        if (address, size) not in self._pieces:
            self._pieces[address, size] = bytes(self._read_recorded(address, size, True))
        return self._pieces[address, size]

    @cached_property
    def places(self) -> list[tuple[int, int]]:
        """Address and size of each piece that the commands read of the kernel as it was."""
        self._repair()
        self._pieces.clear()
        for command in self._commands:
            answers.run(*command, prog=self.program())
        return sorted(self._pieces)

    @cached_property
    def types(self) -> list[tuple[int, int]]:
        """Address and size of each of BTF's types that the kernel's facts are taken from."""
        found: set[tuple[int, int]] = set()
        record = Btf.record

        def noted(btf: Btf, type_id: int) -> Record:
            made = record(btf, type_id)
            found.add((btf._offset + 4 * btf._starts[type_id], 12 + 4 * len(made.words)))
            return made

        self._repair()
        prog = self.program()
        with mock.patch.object(Btf, "record", noted):
            kernel = discover(prog)
        start, _ = btf_addresses(prog)
        walker = Snapshot(kernel, ProgramMemory(prog)).walker
        frames = [walker.entry(start + offset).frame or 0 for offset, _ in sorted(found)]
        return [
            (frame << _PAGE_SHIFT | (start + offset) & (1 << _PAGE_SHIFT) - 1, size)
            for frame, (offset, size) in zip(frames, sorted(found))
        ]

    def _repair(self) -> None:
        """Have the kernel as it was recorded."""
        self._words.clear()
        self._missing.clear()

    def damage(self, edits: bytes, places: Sequence[tuple[int, int]] | None = None) -> None:
        """
        Damage the kernel, which was sound or damaged otherwise before.

        :param edits: Of :data:`_EDIT`; a part of one at the end means nothing.
        :param places: Addresses and sizes of the pieces that are damaged; :attr:`places` by
            default.
        """
        self._repair()
        for edit in _EDIT.iter_unpack(edits[: len(edits) // _EDIT.size * _EDIT.size]):
            self._edit(self.places if places is None else places, *edit)

    def _edit(
        self, places: Sequence[tuple[int, int]], number: int, word: int, kind: int, value: int
    ) -> None:
        start, size = places[number % len(places)]
        address = start + (word * 4 % max(size - 7, 1) & -4)
        kind %= 4
        if kind == _MISS:
            self._missing.add(address >> _PAGE_SHIFT)
            return
        if kind == _COPY:
            other, _ = places[value % len(places)]
            value = other & -4096 | value >> 48 & 0xFFF
        elif kind == _FLIP:
            with contextlib.suppress(drgn.FaultError):
                value ^= int.from_bytes(self._piece(address, 8), "little")
        self._words[address] = value

    def system_map(self, names: Iterable[str]) -> bytes:
        """Lines of the kernel's ``System.map``."""
        symbols = load_vmlinux_kallsyms(self._prog)
        offset = int(self.vmcoreinfo.split(b"KERNELOFFSET=")[1].split()[0], 16)
        found = ((name, symbols(self._prog, name, None, True)[0].address) for name in names)
        return "".join(f"{address - offset:016x} D {name}\n" for name, address in found).encode()


def edit(number: int, word: int, kind: int = _WRITE, value: int = 0) -> bytes:
    """One edit as :meth:`RecordedKernel.damage()` takes it."""
    return _EDIT.pack(number, word, kind, value)
