# SPDX-License-Identifier: LGPL-2.1-or-later

"""
What became of the frames that HVO freed, as far as it can be known.

Vmemmap from boot lies in blocks of 2 MiB. If some of its pages still have their own frames, these
show the block, and so the frames of it that HVO freed: those of tails, and of heads that it moved.

For memory that came from HVO and is now damaged: drgn -c vmcore contrib/freed_frames.py
"""

import sys
from collections import Counter
from pathlib import Path

from drgn import get_default_prog

sys.path.append(str(Path(__file__).resolve().parent.parent))

from drgn_vmemmap import Kernel, ProgramMemory, Report, Walker, examine, exit_code_of, report_code
from drgn_vmemmap.errors import MissingMemory
from drgn_vmemmap.vmemmap.frames import FrameReader
from drgn_vmemmap.vmemmap.snapshot import Snapshot


def main() -> int:
    report = examine(get_default_prog())
    walker = Walker(ProgramMemory(get_default_prog()), report.kernel.paging)
    found: Counter[str] = Counter()
    for region, count in sorted(freed(report).items()):
        frames = walker.frames(walker.run_at(region << 21))
        # The block is where most pages say it is; fewer than a folio has may say so by chance.
        starts = (f - i for i, f in enumerate(frames) if f is not None)
        ((block, agree),) = Counter(s for s in starts if s % 512 == 0).most_common(1) or [(0, 0)]
        if agree < 8:
            found["unknown: no page of the block is where it was"] += count
        else:
            left = {*range(block, block + 512)}.difference(frames)
            found.update(became(frame, report.kernel, walker) for frame in left)
    for state, count in found.most_common():
        print(f"{count:8} frames {state}")
    return report_code(report)


def freed(report: Report) -> Counter[int]:
    """How many frames each 2 MiB of vmemmap gave away, by its number."""
    counts: Counter[int] = Counter()
    for folio, judgement in report.folios:
        first_page = report.kernel.geometry.address(folio.pfn) >> 12
        for first, last in judgement.shared:
            counts.update((first_page + index) >> 9 for index in range(first, last + 1))
    return counts


def became(frame: int, kernel: Kernel, walker: Walker) -> str:
    try:
        page = walker.read(kernel.geometry.address(frame), kernel.page.size)
        if kernel.page.value(page, "refcount"):
            return "in use again"
        if kernel.page.value(page, "compound_head") & 1:
            return "in use again, within a larger page"
        # A free block's first page alone says so; the largest blocks have 1024 pages.
        walker.read(kernel.geometry.address(frame & -1024), 1024 * kernel.page.size)
    except MissingMemory:
        return "unknown: struct pages are not in the dump"
    if FrameReader(Snapshot(kernel, walker.memory)).free_block(frame):
        return "free, in the buddy allocator"
    return "without a reference: on a processor's list of free pages, or inside a larger block"


sys.exit(exit_code_of(main))
