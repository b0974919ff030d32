# SPDX-License-Identifier: LGPL-2.1-or-later

"""
The kernel's own log: the ring of records that ``printk()`` fills.

Follows ``kernel/printk/printk_ringbuffer.h``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import drgn
from drgn.helpers.linux.printk import PrintkRecord, get_printk_records

from drgn_vmemmap.errors import printable
from drgn_vmemmap.target.page_reader import PAGE_SIZE

# log2 of the number of records in a log of 32 MiB, the largest that can be configured.
_COUNT_BITS_LIMIT = 20

# In any log, fewer records than these have no text.
_MISSING_LIMIT = 1 << 12

# DESC_ID_MASK of kernel/printk/printk_ringbuffer.h: the other two bits are a record's state.
_RECORD_ID = (1 << 62) - 1

# As a power of two, the bytes of text in a log of 32 MiB: no larger one is looked for, and no more
# is searched where the records are lost.
_TEXT_BITS_LIMIT = 25
_TEXT_LIMIT = 1 << _TEXT_BITS_LIMIT

# Shorter pieces of its memory are no lines.
_TEXT = re.compile(rb"[\t\n\x20-\x7e]{8,}")


class LogRecord(NamedTuple):
    """A record of a kernel's log."""

    text: bytes
    """Without a time stamp."""
    caller: str | None
    """The task (``T71``) or processor (``C0``) that wrote it, as consoles name them."""


class KernelLog(NamedTuple):
    """A kernel's log, as far as it could be read."""

    records: Sequence[LogRecord]
    problem: str | None
    """Why records may be missing, in words; ``None`` if none are."""

    @property
    def text(self) -> bytes:
        """Its records, one after the other."""
        return b"\n".join(record.text for record in self.records)


def read_kernel_log(prog: drgn.Program) -> KernelLog:
    """
    The kernel's own log.

    Where its records are damaged, or not in the dump, the text that is left in its memory is taken.
    """
    try:
        _check_ring(prog)
        records = [LogRecord(each.text, _caller(each)) for each in get_printk_records(prog)]
    # Damaged files make drgn's and libkdumpfile's readers fail with plain Exception, too.
    except Exception as error:
        texts = _left_text(prog)
        reason = printable(str(error)) or type(error).__name__
        left = "what is left of its text is used" if texts else "nothing of it is left"
        records = [LogRecord(text, None) for text in texts]
        return KernelLog(records, f"the kernel's log: {reason}; {left}")
    return KernelLog(records, None)


def _caller(record: PrintkRecord) -> str | None:
    """The task that wrote a record, or the processor if an interrupt did."""
    if record.caller_cpu is not None:
        return f"C{record.caller_cpu}"
    return None if record.caller_tid is None else f"T{record.caller_tid}"


def text_memory(prog: drgn.Program) -> list[range]:
    """
    Virtual addresses of the log's text, as far as they are known.

    The text is in the log's ring, and in the ring of early boot, which ``setup_log_buf()`` of
    ``kernel/printk/printk.c`` replaces.
    """
    found = []
    for name in ("prb", "printk_rb_static"):
        try:
            address = prog.symbol(name).address
            if name == "prb":
                address = int(prog["prb"])
            ring = drgn.Object(prog, "struct printk_ringbuffer", address=address)
            start, bits = int(ring.text_data_ring.data), int(ring.text_data_ring.size_bits)
        # Damaged files make drgn's and libkdumpfile's readers fail with plain Exception, too.
        except Exception:
            continue
        if bits <= _TEXT_BITS_LIMIT:
            found.append(range(start, start + (1 << bits)))
    return found


def _check_ring(prog: drgn.Program) -> None:
    """
    Check that the ring can hold its records: drgn's helper reads them from the tail to the head.

    :raises ValueError: if it cannot.
    """
    ring = prog["prb"].desc_ring
    head, tail, bits = int(ring.head_id.counter), int(ring.tail_id.counter), int(ring.count_bits)
    # The numbers begin shortly before they wrap around.
    records = (head - tail) & _RECORD_ID
    if bits > _COUNT_BITS_LIMIT or records >= 1 << bits or not 0 <= head <= _RECORD_ID:
        raise ValueError(f"from {tail:#x} to {head:#x}, its records do not fit a ring of 2^{bits}")
    size = sum(_text_sizes(prog, tail % (1 << bits), records + 1))
    if size > _TEXT_LIMIT:
        raise ValueError(f"its records have {size} bytes of text, more than a log can have")


def _text_sizes(prog: drgn.Program, first: int, count: int) -> Iterator[int]:
    """Bytes of text that some records have, one after the other in the ring."""
    ring = prog["prb"].desc_ring
    info = prog.type("struct printk_info")
    size, offset = drgn.sizeof(info), drgn.offsetof(info, "text_len")
    start, in_ring = int(ring.infos) + offset, 1 << int(ring.count_bits)
    missing = 0
    for number in range(first, first + count):
        try:
            yield int.from_bytes(prog.read(start + number % in_ring * size, 2), "little")
        except drgn.FaultError:
            # An extract lacks records without text: drgn's helper does not read them.
            missing += 1
            if missing > _MISSING_LIMIT:
                raise


def _left_text(prog: drgn.Program) -> list[bytes]:
    """Pieces of text in the log's memory, whatever became of its records."""
    memory = bytearray()
    try:
        ring = prog["prb"].text_data_ring
        start, size = int(ring.data), min(1 << (int(ring.size_bits) & 63), _TEXT_LIMIT)
    except Exception:
        return []
    for offset in range(0, size, PAGE_SIZE):
        length = min(PAGE_SIZE, size - offset)
        try:
            memory += prog.read(start + offset, length)
        except Exception:
            # Of missing memory one byte, which ends a text, is enough to search.
            memory += b"\0"
    return _TEXT.findall(memory)
