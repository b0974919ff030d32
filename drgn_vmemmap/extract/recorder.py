# SPDX-License-Identifier: LGPL-2.1-or-later

"""Physical memory that remembers what was read of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from drgn_vmemmap.errors import MissingMemory
from drgn_vmemmap.paging.x86_64 import PAGE_SHIFT
from drgn_vmemmap.target.memory import Memory


def frames_of(address: int, size: int) -> range:
    """PFNs of the frames that consecutive bytes are in."""
    return range(address >> PAGE_SHIFT, (address + size - 1 >> PAGE_SHIFT) + 1)


class Recorder(Memory):
    """Physical memory that remembers what was read of it."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self._reads: dict[tuple[int, int], bytes | None] = {}
        self._by_frame: dict[int, list[tuple[int, int]]] = {}
        """The reads of each frame."""

    def read(self, address: int, size: int) -> bytes:
        """
        Read, and remember. Each byte is as it was when it was read first, even on a live kernel.

        :raises MissingMemory: as the memory that is recorded does.
        """
        return self._remembered(self._memory.read, address, size)

    def read_data(self, address: int, size: int) -> bytes:
        return self._remembered(self._memory.read_data, address, size)

    def _remembered(self, read: Callable[[int, int], bytes], address: int, size: int) -> bytes:
        key = (address, size)
        if key not in self._reads:
            try:
                self._reads[key] = self._as_before(key, read(address, size))
            except MissingMemory:
                self._reads[key] = None
        data = self._reads[key]
        if data is None:
            raise MissingMemory(f"physical address {address:#x}")
        return data

    def _as_before(self, key: tuple[int, int], data: bytes) -> bytes:
        """Bytes that are read now, with those that were read before as they were then."""
        start, size = key
        for frame in frames_of(start, size):
            others = self._by_frame.setdefault(frame, [])
            begin, end = max(start, frame << PAGE_SHIFT), min(start + size, frame + 1 << PAGE_SHIFT)
            for other in others:
                first, last = max(begin, other[0]), min(end, sum(other))
                before = self._reads[other]
                if first < last and before is not None:
                    same = before[first - other[0] : last - other[0]]
                    if data[first - start : last - start] != same:
                        data = data[: first - start] + same + data[last - start :]
            others.append(key)
        return data

    def add(self, other: Recorder) -> None:
        """Remember what another one does, but for the bytes that this one has read itself."""
        for key, data in other.reads().items():
            if key not in self._reads:
                self._reads[key] = self._as_before(key, data)

    def reads(self) -> Mapping[tuple[int, int], bytes]:
        """All that could be read so far, by physical address and size in bytes."""
        return {key: data for key, data in self._reads.items() if data is not None}
