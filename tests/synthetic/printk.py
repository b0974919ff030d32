# SPDX-License-Identifier: LGPL-2.1-or-later

"""The ring of the kernel's log (``kernel/printk/printk_ringbuffer.h``), in memory of a program."""

from __future__ import annotations

from collections.abc import Sequence

import drgn

ADDRESS = 0xFFFFFFFF82000000
RECORDS_AT, INFOS_AT, TEXT_AT = 0x1000, 0x2000, 0x3000
COUNT_BITS = 5
TEXT_SIZE_BITS = 12

FIRST_ID = (1 << 62) - (1 << COUNT_BITS) - 1
"""``DESC0_ID``: the numbers wrap around soon after boot."""
_FINALIZED = 2 << 62

_STRUCTS = {
    "prb_data_blk_lpos": ["unsigned long begin", "unsigned long next"],
    "prb_desc": ["atomic_long_t state_var", "struct prb_data_blk_lpos text_blk_lpos"],
    "dev_printk_info": ["char [16] subsystem", "char [48] device"],
    "printk_info": [
        "unsigned long seq",
        "unsigned long ts_nsec",
        "unsigned short text_len",
        "unsigned char facility",
        "unsigned char flags",
        "unsigned char level",
        "unsigned char [3] padding",
        "unsigned int caller_id",
        "unsigned int more_padding",
        "struct dev_printk_info dev_info",
    ],
    "prb_desc_ring": [
        "unsigned long count_bits",
        "struct prb_desc * descs",
        "struct printk_info * infos",
        "atomic_long_t head_id",
        "atomic_long_t tail_id",
    ],
    "prb_data_ring": ["unsigned long size_bits", "char * data"],
    "printk_ringbuffer": ["struct prb_desc_ring desc_ring", "struct prb_data_ring text_data_ring"],
}
_CONSTANTS = {"LOG_CONT": 8, "desc_committed": 1, "desc_finalized": 2}


class Ring:
    """A log, and the program that has it."""

    def __init__(
        self,
        texts: Sequence[bytes] = (),
        first_id: int = FIRST_ID,
        callers: Sequence[int] = (),
    ) -> None:
        """
        :param texts: Of the records.
        :param first_id: Number of the first one.
        :param callers: Raw ``caller_id`` of each record; 0 if there are none.
        """
        self.missing: set[int] = set()
        """Offsets of pages that are not in the dump."""
        self._memory = bytearray(0x4000)
        self.write(0x00, COUNT_BITS)
        self.write(0x08, ADDRESS + RECORDS_AT)
        self.write(0x10, ADDRESS + INFOS_AT)
        self.set_ids(first_id, first_id + len(texts) - 1)
        self.write(0x28, TEXT_SIZE_BITS)
        self.write(0x30, ADDRESS + TEXT_AT)
        position = 0
        for number, text in enumerate(texts, first_id):
            position = self._add(number % (1 << 62), text, position)
        for number, caller in enumerate(callers, first_id):
            self.write(INFOS_AT + number % (1 << COUNT_BITS) * 96 + 24, caller, 4)
        self.prog = self._program()

    def set_ids(self, tail: int, head: int) -> None:
        self.write(0x18, head % (1 << 62))
        self.write(0x20, tail % (1 << 62))

    def write(self, offset: int, value: int, size: int = 8) -> None:
        self._memory[offset : offset + size] = value.to_bytes(size, "little")

    def _add(self, number: int, text: bytes, position: int) -> int:
        index = number % (1 << COUNT_BITS)
        end = position + 8 + len(text) + -len(text) % 8
        for word, value in enumerate((number | _FINALIZED, position, end)):
            self.write(RECORDS_AT + index * 24 + word * 8, value)
        self.write(INFOS_AT + index * 96 + 16, len(text), 2)
        self.write(TEXT_AT + position, number)
        self._memory[TEXT_AT + position + 8 : TEXT_AT + position + 8 + len(text)] = text
        return end

    def _program(self) -> drgn.Program:
        prog = drgn.Program(drgn.Platform(drgn.Architecture.X86_64))
        prog.add_memory_segment(ADDRESS, len(self._memory), self._read, False)
        prog.register_type_finder("printk", self._find_type, enable_index=0)
        prog.register_object_finder("printk", self._find_object, enable_index=0)
        return prog

    def _read(self, address: int, count: int, offset: int, physical: bool) -> bytes:
        if any(page in self.missing for page in range(offset & -0x1000, offset + count, 0x1000)):
            raise drgn.FaultError("not in the dump", address)
        return bytes(self._memory[offset : offset + count])

    def _find_type(
        self, prog: drgn.Program, kinds: drgn.TypeKindSet, name: str, filename: str | None
    ) -> drgn.Type | None:
        if name == "atomic_long_t" and drgn.TypeKind.TYPEDEF in kinds:
            counter = drgn.TypeMember(prog.type("long"), "counter")
            return prog.typedef_type(name, prog.struct_type(None, 8, [counter]))
        if name not in _STRUCTS or drgn.TypeKind.STRUCT not in kinds:
            return None
        members, size = [], 0
        for declaration in _STRUCTS[name]:
            type_name, member = declaration.rsplit(" ", 1)
            type_ = prog.type(type_name)
            members.append(drgn.TypeMember(type_, member, size * 8))
            size += drgn.sizeof(type_)
        return prog.struct_type(name, size, members)

    def _find_object(
        self, prog: drgn.Program, name: str, flags: drgn.FindObjectFlags, filename: str | None
    ) -> drgn.Object | None:
        if flags & drgn.FindObjectFlags.CONSTANT and name in _CONSTANTS:
            return drgn.Object(prog, "int", _CONSTANTS[name])
        if flags & drgn.FindObjectFlags.VARIABLE and name == "prb":
            return drgn.Object(prog, "struct printk_ringbuffer *", ADDRESS)
        return None
