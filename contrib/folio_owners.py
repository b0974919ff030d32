# SPDX-License-Identifier: LGPL-2.1-or-later

"""
Who owns the folios in use: hugetlbfs files and processes, and whether they are optimized.

For a pool that is used up and nobody says by whom: drgn -c vmcore contrib/folio_owners.py
A process that has a file open and does not map it is not told.
"""

import sys
from collections import Counter
from functools import cache
from itertools import islice
from pathlib import Path

from drgn import FaultError, Object, container_of, get_default_prog

sys.path.append(str(Path(__file__).resolve().parent.parent))

from drgn_vmemmap import discover, examine
from drgn_vmemmap.kernel import printable

prog = get_default_prog()
kernel = discover(prog)
alias = "d_u.d_alias" if prog.type("struct dentry").has_member("d_u") else "d_alias"


def text(string: Object) -> str:
    return printable(string.string_().decode("utf-8", "backslashreplace"))


def mapped(tree: Object, link: str, member: str) -> str:
    found, nodes = set(), [tree.rb_node.read_()]
    for node in islice(nodes, 100_000):  # they grow meanwhile; a damaged tree may be a circle
        if node:
            entry = container_of(node, link, member)
            task = (entry.vma if link == "struct anon_vma_chain" else entry).vm_mm.owner.read_()
            found.add(f"{text(task.comm)} ({task.pid.value_()})" if task else "?")
            nodes += [node.rb_left.read_(), node.rb_right.read_()]
    return "mapped by " + (", ".join(sorted(found)) or "nobody")


@cache
def owner(mapping: int) -> str:
    try:
        if mapping & 1:  # PAGE_MAPPING_ANON
            tree = Object(prog, "struct anon_vma *", mapping & ~3).rb_root.rb_root
            return "anonymous, " + mapped(tree, "struct anon_vma_chain", "rb")
        space = Object(prog, "struct address_space *", mapping)
        inode, first = space.host, space.host.i_dentry.first.read_()
        name = text(container_of(first, "struct dentry", alias).d_name.name) if first else "-"
        users = mapped(space.i_mmap.rb_root, "struct vm_area_struct", "shared.rb")
        return f"{text(inode.i_sb.s_type.name)} inode {inode.i_ino.value_()}, {name}, {users}"
    except FaultError:
        return f"mapping {mapping:#x}, whose inode or processes are not in the dump"


owners: Counter[tuple[str, str, str]] = Counter()
for folio, judgement in examine(prog).folios:
    if folio.state.value == "active":
        page = Object(prog, "struct page *", kernel.page_address(folio.pfn))
        if folio.zone is None:
            name = "its head page is not in the dump"
        else:
            name = owner(page.mapping.value_()) if page.mapping else "reserved, not yet used"
        owners[name, folio.hstate, judgement.verdict.value] += 1
for (name, hstate, verdict), count in owners.most_common():
    print(f"{count:6} {hstate} {verdict}: {name}")
