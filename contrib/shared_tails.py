# SPDX-License-Identifier: LGPL-2.1-or-later

"""
The frames that zones keep for shared tails (v7.1 and later), and how many folios use each.

For a ``reuse-invalid`` or ``tail-content`` finding: drgn -c vmcore contrib/shared_tails.py
"""

import sys
from collections import Counter
from pathlib import Path

from drgn import get_default_prog

sys.path.append(str(Path(__file__).resolve().parent.parent))

from drgn_vmemmap import verify

report = verify(get_default_prog())
users = Counter(report.folios.reuse_frames)
wrong = {f.folio for f in report.findings if f.rule in ("tail-content", "reuse-invalid")}
for frame in sorted(report.tail_frames):
    found = [folio for folio, judgement in report.folios if judgement.reuse_frame == frame]
    content = "wrong" if wrong.intersection(folio.pfn for folio in found) else "right"
    print(f"frame {frame:#x}: {users[frame]} folios, content {content if found else 'unused'}")
if not report.tail_frames:
    print(f"no zone keeps tails: layout {report.kernel.hvo.layout.value}")
