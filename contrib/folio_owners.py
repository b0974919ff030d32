# SPDX-License-Identifier: LGPL-2.1-or-later

"""
Who owns the folios in use: hugetlbfs files and processes, and whether they are optimized.

For a pool that is used up by unknown users: drgn -c vmcore contrib/folio_owners.py
"""

import sys
from collections import Counter
from itertools import islice
from pathlib import Path
from typing import Optional

from drgn import Object, container_of, get_default_prog
from drgn.helpers.linux.rbtree import rbtree_inorder_for_each_entry

sys.path.append(str(Path(__file__).resolve().parent.parent))

from drgn_vmemmap import examine, exit_code_of, report_code
from drgn_vmemmap.errors import printable

prog = get_default_prog()


def main() -> int:
    report = examine(prog)
    used: Counter[tuple[Optional[int], str, str]] = Counter()
    for folio, judgement in report.folios:
        if folio.state.value == "active":
            page = Object(prog, "struct page", address=report.kernel.geometry.address(folio.pfn))
            mapping = None if folio.zone is None else page.mapping.value_()
            used[mapping, folio.hstate, judgement.verdict.value] += 1
    for (mapping, hstate, verdict), count in used.most_common():
        try:
            name = owner(mapping)
        except Exception:  # damaged memory makes drgn's readers fail in more ways than by faults
            name = f"mapping {mapping:#x}, whose inode or processes are not in the dump"
        print(f"{count:6} {hstate} {verdict}: {name}")
    return report_code(report)


def owner(mapping: Optional[int]) -> str:
    if not mapping:
        return "its head page is not in the dump" if mapping is None else "reserved, not yet used"
    if mapping & 1:  # PAGE_MAPPING_ANON
        tree = Object(prog, "struct anon_vma *", mapping & ~3).rb_root
        return "anonymous, " + mapped(tree, "struct anon_vma_chain", "rb")
    space = Object(prog, "struct address_space *", mapping)
    inode, first = space.host, space.host.i_dentry.first.read_()
    alias = "d_u.d_alias" if prog.type("struct dentry").has_member("d_u") else "d_alias"
    name = text(container_of(first, "struct dentry", alias).d_name.name) if first else "-"
    users = mapped(space.i_mmap, "struct vm_area_struct", "shared.rb")
    return f"{text(inode.i_sb.s_type.name)} inode {inode.i_ino.value_()}, {name}, {users}"


def mapped(tree: Object, entry: str, member: str) -> str:
    areas = rbtree_inorder_for_each_entry(entry, tree.rb_root.address_of_(), member)
    found = set()
    for area in islice(areas, 100_000):
        mm = getattr(area, "vma", area).vm_mm.read_()
        task = mm.owner.read_() if hasattr(mm, "owner") else None  # it needs CONFIG_MEMCG
        found.add(f"{text(task.comm)} ({task.pid.value_()})" if task else f"mm {mm.value_():#x}")
    return "mapped by " + (", ".join(sorted(found)) or "nobody")


def text(string: Object) -> str:
    return printable(string.string_().decode("ascii", "backslashreplace"))


sys.exit(exit_code_of(main))
