# SPDX-License-Identifier: LGPL-2.1-or-later

"""
Who owns the folios in use: the hugetlbfs inode behind each, and whether it is optimized.

For a pool that is used up and nobody says by whom: drgn -c vmcore contrib/folio_owners.py
Private mappings have no inode of their own: they show the anonymous file of their process.
"""

import sys
from collections import Counter
from pathlib import Path

from drgn import FaultError, Object, get_default_prog

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from drgn_vmemmap import discover, examine

prog = get_default_prog()
kernel = discover(prog)
owners: Counter[tuple[str, str, str]] = Counter()
for folio, judgement in examine(prog).folios:
    if folio.state.value != "active":
        continue
    head = Object(prog, "struct page *", value=kernel.page_address(folio.pfn))
    try:
        mapping = head.mapping.value_()
        if not mapping:
            owner = "reserved, not mapped"
        elif mapping & 1:
            owner = f"anonymous memory, anon_vma {mapping & ~3:#x}"
        else:
            inode = Object(prog, "struct address_space *", value=mapping).host
            owner = f"inode {inode.i_ino.value_()}, {inode.i_size.value_()} bytes"
    except FaultError:
        owner = "an inode that is not in the dump"
    owners[owner, folio.hstate, judgement.verdict.value] += 1
for (owner, hstate, verdict), count in owners.most_common():
    print(f"{count:6} {hstate} {verdict}: {owner}")
