# SPDX-License-Identifier: LGPL-2.1-or-later

"""What others say of a guest's memory: QEMU's page-table walk, and crash's."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

_HUGE = 2 << 20

Folio = dict[str, Any]


class Mapped(NamedTuple):
    """How one vmemmap page is mapped."""

    frame: int
    writable: bool


def qemu(mappings: Path) -> dict[int, Mapped]:
    """QEMU's ``info tlb``: each leaf by its virtual address; a 2 MiB leaf as its 512 pages."""
    leaves = {}
    for line in mappings.read_text().splitlines():
        address, physical, flags = line.replace(":", "").split()
        pages = 512 if "P" in flags else 1
        for page in range(pages):
            frame = (int(physical, 16) >> 12) + page
            leaves[int(address, 16) + page * 4096] = Mapped(frame, "W" in flags)
    return leaves


def crash(vmcore: Path, vmlinux: Path, addresses: Iterable[int]) -> dict[int, Mapped]:
    """``crash``'s ``vtop``: the last entry on the way to each address."""
    commands = "".join(f"vtop -k {address:x}\n" for address in addresses) + "quit\n"
    done = subprocess.run(
        ["crash", "-s", vmlinux, vmcore],
        input=commands,
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    return dict(_vtop(done.stdout))


def _vtop(output: str) -> Iterator[tuple[int, Mapped]]:
    for block in output.split("VIRTUAL")[1:]:
        address, physical = (int(word, 16) for word in block.split("\n")[1].split())
        flags = re.findall(r"\((PRESENT[A-Z|]*)\)", block)[-1]
        yield address, Mapped(physical >> 12, "RW" in flags.split("|"))


def pages_of(folio: Folio) -> list[int]:
    """Virtual addresses of a folio's vmemmap pages."""
    pages = (64 << folio["order"]) >> 12
    return [int(folio["head"], 16) + page * 4096 for page in range(pages)]


def reading_of(folio: Folio, mapped: dict[int, Mapped]) -> dict[str, Any]:
    """What an independent reading of a folio's entries amounts to, in the form of a report."""
    entries = [mapped[address] for address in pages_of(folio)]
    frames = [entry.frame for entry in entries]
    shared = [index for index in range(1, len(frames)) if frames.count(frames[index]) > 1]
    return {
        "reuse_frame": frames[1] if shared else None,
        "shared": _ranges(shared),
        "read_only": _ranges([i for i, entry in enumerate(entries) if not entry.writable]),
        "freed": len(shared),
    }


def _ranges(indices: list[int]) -> str:
    text = ""
    for index in indices:
        if index - 1 not in indices:
            text += f",{index}"
        elif index + 1 not in indices:
            text += f"-{index}"
    return text.lstrip(",")
