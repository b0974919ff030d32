# SPDX-License-Identifier: LGPL-2.1-or-later

"""
The frames that zones keep for shared tails (v7.1 and later): how many folios use each, and
whether its content is right.

For a ``reuse-invalid`` or ``tail-content`` finding: drgn -c vmcore contrib/shared_tails.py
"""

import sys
from pathlib import Path

from drgn import get_default_prog

sys.path.append(str(Path(__file__).resolve().parent.parent))

from drgn_vmemmap import ProgramMemory, examine, exit_code_of, report_code
from drgn_vmemmap.errors import MissingMemory
from drgn_vmemmap.hugetlb.tails import Tails
from drgn_vmemmap.kernel.layout import Layout


def main() -> int:
    report = examine(get_default_prog())
    kernel, memory = report.kernel, ProgramMemory(get_default_prog())
    users: dict[int, list[tuple[int, int]]] = {frame: [] for frame in report.tail_frames}
    for folio, judgement in report.folios:
        if judgement.reuse_frame is not None and judgement.layout is Layout.SHARED_TAIL:
            info = kernel.tail_info(folio.pfn, folio.order)
            users.setdefault(judgement.reuse_frame, []).append((info, folio.order))
    for frame, infos in sorted(users.items()):
        try:
            content = memory.read(frame << 12, 4096)
            right = all(
                Tails(kernel, order).first_wrong(content, info, has_head=False) is None
                for info, order in set(infos)
            )
            state = ("right" if right else "wrong") if infos else "unused"
        except MissingMemory:
            state = "not in the dump"
        kept = "" if frame in report.tail_frames else ", kept by no zone"
        print(f"frame {frame:#x}: {len(infos)} folios, content {state}{kept}")
    if not users and not report.incomplete:
        print(f"no shared tails: layout {kernel.hvo.layout.value}")
    return report_code(report)


sys.exit(exit_code_of(main))
