# SPDX-License-Identifier: LGPL-2.1-or-later

"""
The vmemmap entries of one folio, as the processor sees them.

For a folio that ``report`` calls inconsistent: drgn -c vmcore contrib/folio_entries.py PFN
"""

import sys
from pathlib import Path

from drgn import get_default_prog

sys.path.append(str(Path(__file__).resolve().parent.parent))

from drgn_vmemmap import (
    ProgramMemory,
    Selection,
    Walker,
    discover,
    examine,
    exit_code_of,
    report_code,
)
from drgn_vmemmap.cli.exit_codes import CANNOT, fail


def main() -> int:
    try:
        pfn = int(sys.argv[1], 0)
    except (IndexError, ValueError):
        return fail(CANNOT, "give the PFN of any page of the folio, such as 0x2000")
    prog = get_default_prog()
    kernel = discover(prog)
    walker = Walker(ProgramMemory(prog), kernel.paging)
    report = examine(prog, Selection(pfn=pfn))
    if not report.folios and not report.incomplete:
        print(f"PFN {pfn:#x} is in no HugeTLB folio")
    for folio, judgement in report.folios:
        print(f"folio {folio.pfn:#x}: {judgement.verdict.value}, layout {judgement.layout.value}")
        start = kernel.geometry.address(folio.pfn)
        end = start + kernel.geometry.pages_of_order(folio.order) * kernel.page_size
        entries = (entry for run in walker.walk(start, end) for entry in walker.pages(run))
        for index, entry in enumerate(entries):
            raw = "missing" if entry.raw is None else f"{entry.raw:016x}"
            frame = "-" if entry.frame is None else f"{entry.frame:#x}"
            print(f"{index:4} {entry.level.name} {raw} {entry.access} frame {frame}")
    return report_code(report)


sys.exit(exit_code_of(main))
