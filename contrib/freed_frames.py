# SPDX-License-Identifier: LGPL-2.1-or-later

"""
What became of the frames that HVO freed, as far as it can be told.

Vmemmap from boot lies in blocks of 2 MiB. Where a page of a block's vmemmap is still mapped to
its own frame, the block is evident, and with it the frames of the pages that are not any more.

For memory that came from HVO and is now damaged: drgn -c vmcore contrib/freed_frames.py
"""

import sys
from collections import Counter
from pathlib import Path

from drgn import get_default_prog

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from drgn_vmemmap import ProgramMemory, Walker, discover, examine
from drgn_vmemmap.frames import PageReader
from drgn_vmemmap.x86_64 import PTE

prog = get_default_prog()
kernel = discover(prog)
walker = Walker(ProgramMemory(prog), kernel.paging)
pages = PageReader(kernel, walker)
regions = {kernel.page_address(folio.pfn) >> 21 for folio, _ in examine(prog).folios}
became: Counter[str] = Counter()
for region in sorted(regions):
    run = walker.region(region << 21)
    frames = walker.frames(run)
    # The block is where most of the pages that keep their place say it is.
    blocks = Counter(f - i for i, f in enumerate(frames) if f is not None and (f - i) % 512 == 0)
    if run.level is not PTE or not blocks:
        became["not to be told: no page of the block is where it was"] += len(frames)
        continue
    ((block, _),) = blocks.most_common(1)
    for frame in set(range(block, block + 512)).difference(frames):
        try:
            free = pages.free_block(frame)
            page = walker.read(kernel.page_address(frame), kernel.page.size)
        except Exception as error:
            became[f"not to be told: {type(error).__name__}"] += 1
            continue
        used = kernel.page.value(page, "refcount") > 0
        became["free" if free else "in use again" if used else "free, on no block's list"] += 1
for state, count in became.most_common():
    print(f"{count:8} frames {state}")
