# SPDX-License-Identifier: LGPL-2.1-or-later

"""Lines of a log belong to the fault or the page that they are about, whatever stands between."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from drgn_vmemmap.explain.log.mention import Mention
from drgn_vmemmap.explain.log.reader import find_mentions
from drgn_vmemmap.explain.messages.message import Kind
from drgn_vmemmap.explain.text.read import logical_lines


def mentions(lines: Iterable[str]) -> list[Mention]:
    return find_mentions(logical_lines("\n".join(lines))).named


FAULT_LINES = (
    "BUG: unable to handle page fault for address: ffffea0000010034",
    "#PF: supervisor write access in kernel mode",
    "#PF: error_code(0x0003) - permissions violation",
    "PGD 7fcb0067 P4D 7fcaf067 PUD 7fcae067 PMD 2420067 PTE 8000000035f9b121",
    "Oops: Oops: 0003 [#1] SMP NOPTI",
    "RIP: 0010:isolate_migratepages_block+0x2f1/0x1520",
    "CR2: ffffea0000010034 CR3: 0000000036022000 CR4: 0000000000771ef0",
)
PAGE_LINES = (
    "BUG: Bad page state in process kworker/0:3  pfn:02ec0",
    "page: refcount:0 mapcount:0 mapping:0000000000000000 index:0x0 pfn:0x2ec0",
    "flags: 0x17ffffc0000000(node=0|zone=2|lastcpupid=0x1fffff)",
    "raw: 0017ffffc0000000 ffa09b70800b8001 0000000000000000 0000000000000000",
    "raw: 0000000000000000 0000000000000000 00000000ffffffff 0000000000000000",
    "page dumped because: corrupted mapping in tail page",
)
FAILED = "Memory failure: 0x2ec6: recovery action for huge page: Recovered"


@pytest.mark.parametrize("before", range(1, len(FAULT_LINES)))
@pytest.mark.parametrize("between", ((FAILED,), PAGE_LINES[:-1]), ids=("failure", "page"))
def test_lines_of_a_fault_are_its_own_whatever_another_processor_writes_between_them(
    before: int, between: tuple[str, ...]
) -> None:
    lines = (*FAULT_LINES[:before], *between, *FAULT_LINES[before:])
    fault, other = mentions(lines)[:2]
    assert (fault.access, fault.error_code) == ("write", 3)
    assert fault.walk is not None and len(fault.walk.entries) == 5
    assert not fault.words
    assert not any("PF" in detail for detail in other.details)
    if between == (FAILED,):
        assert fault.functions == ["isolate_migratepages_block"]
        assert fault.registers["CR4"] == 0x771EF0


@pytest.mark.parametrize("before", range(1, len(PAGE_LINES)))
@pytest.mark.parametrize("between", ((FAILED,), FAULT_LINES), ids=("failure", "fault"))
def test_lines_of_a_dumped_page_are_its_own_whatever_another_processor_writes_between_them(
    before: int, between: tuple[str, ...]
) -> None:
    page, other = mentions((*PAGE_LINES[:before], *between, *PAGE_LINES[before:]))[:2]
    assert page.value == 0x2EC0
    assert len(page.words) == 8
    assert len(page.details) == 2
    assert not other.words


def test_a_struct_page_of_a_page_that_is_not_in_the_log_is_no_fault() -> None:
    (fault,) = mentions((*PAGE_LINES[3:], *FAULT_LINES[3:]))
    assert (fault.kind, fault.value) == (Kind.FAULT, 0xFFFFEA0000010034)
    assert not fault.words
    assert not fault.details


@pytest.mark.parametrize("oops", ("Bad pagetable", "Oops: Bad pagetable"))
def test_the_error_code_of_a_corrupted_page_table_is_read(oops: str) -> None:
    dump = (FAULT_LINES[3], f"{oops}: 000b [#1] SMP NOPTI", *FAULT_LINES[5:])
    first = "kcompactd0: Corrupted page table at address ffffea0000010034"
    for lines in ((first, *dump), dump):
        (fault,) = mentions(lines)
        assert (fault.value, fault.error_code, fault.access) == (0xFFFFEA0000010034, 11, "write")


OTHER_FAULT = (*(line.replace("ffffea0000010034", "ffffea0000020034") for line in FAULT_LINES),)
GAPS = (
    "** 1234 printk messages dropped **",
    "Nov 26 15:32:04 host systemd-journald[300]: Missed 25 kernel messages",
)

every_gap = pytest.mark.parametrize("gap", GAPS)


@every_gap
@pytest.mark.parametrize("lost", range(2, len(FAULT_LINES)))
def test_lines_after_a_gap_may_be_of_another_fault(gap: str, lost: int) -> None:
    first, second = mentions((FAULT_LINES[0], gap, *OTHER_FAULT[lost - 1 :]))
    assert (first.value, first.access, first.walk) == (0xFFFFEA0000010034, None, None)
    assert not first.functions
    assert second.value == 0xFFFFEA0000020034
    assert second.registers["CR4"] == 0x771EF0


@every_gap
@pytest.mark.parametrize("last", range(1, 4))
def test_lines_after_a_gap_that_are_of_the_same_fault_are_its_own(gap: str, last: int) -> None:
    (fault,) = mentions((*FAULT_LINES[:last], gap, *FAULT_LINES[last:]))
    assert (fault.line, fault.access, fault.error_code) == (FAULT_LINES[0], "write", 3)
    assert fault.walk is not None and len(fault.walk.entries) == 5
    assert fault.functions == ["isolate_migratepages_block"]


@every_gap
def test_a_struct_page_after_a_gap_may_be_another_ones(gap: str) -> None:
    (page,) = mentions((*PAGE_LINES[:3], gap, *PAGE_LINES[3:]))
    assert (page.words, len(page.details)) == ([], 1)


OTHER_DUMPS = (
    "WARNING: CPU: 1 PID: 9 at mm/hugetlb_vmemmap.c:170 vmemmap_remap_pte+0x1/0x2",
    "watchdog: BUG: soft lockup - CPU#2 stuck for 22s! [foo:99]",
    "rcu: INFO: rcu_preempt self-detected stall on CPU",
    "Oops: invalid opcode: 0000 [#2] SMP NOPTI",
    "kernel BUG at mm/hugetlb.c:1!",
    "WARNING: mm/hugetlb_vmemmap.c:170 at vmemmap_remap_pte+0x1/0x2, CPU#1: foo/9",
    "INFO: task foo:99 blocked for more than 120 seconds.",
    "watchdog: Watchdog detected hard LOCKUP on cpu 3",
    "NMI backtrace for cpu 1",
    "general protection fault: 0000 [#2] SMP NOPTI",
    "invalid opcode: 0000 [#2] SMP NOPTI",
    "divide error: 0000 [#2] SMP NOPTI",
    "stack segment: 0000 [#2] SMP NOPTI",
    "Oops: stack segment: 0000 [#2] SMP NOPTI",
    "Oops: int3: 0000 [#2] SMP NOPTI",
    "sysrq: Show Regs",
)
OTHER_STACK = ("RIP: 0010:vmemmap_remap_pte+0x1/0x2", "CR4: 0000000000001234 RAX: 0000000000000001")


@pytest.mark.parametrize("dump", OTHER_DUMPS)
def test_functions_and_registers_of_another_dump_are_not_the_faults(dump: str) -> None:
    (fault,) = mentions((*FAULT_LINES, dump, *OTHER_STACK))
    assert fault.functions == ["isolate_migratepages_block"]
    assert fault.registers["CR4"] == 0x771EF0
    (fault,) = mentions((*FAULT_LINES[:5], dump, *OTHER_STACK))
    assert not fault.functions
    assert not fault.registers
    found = mentions((*FAULT_LINES, dump, *OTHER_STACK, *OTHER_FAULT))
    assert [each.functions for each in found] == [["isolate_migratepages_block"]] * 2


@pytest.mark.parametrize("before", range(1, 5))
def test_registers_after_the_error_code_are_the_faults_whatever_stands_before_it(
    before: int,
) -> None:
    """Other processors' faults wait until it is dumped, after a line that names their BUG."""
    dump = ("------------[ cut here ]------------", "kernel BUG at mm/slub.c:553!")
    (fault,) = mentions((*FAULT_LINES[:before], *dump, *FAULT_LINES[before:]))
    assert fault.functions == ["isolate_migratepages_block"]
    assert fault.registers["CR4"] == 0x771EF0
    (fault,) = mentions((*FAULT_LINES[:before], *dump, *FAULT_LINES[before:6]))
    assert fault.functions == ["isolate_migratepages_block"]


def test_an_error_code_far_from_a_fault_is_not_the_faults() -> None:
    far, dump = ["usb 1-1: reset"] * 20, "kernel BUG at mm/slub.c:553!"
    lines = (FAULT_LINES[0], *far, dump, FAULT_LINES[2], FAULT_LINES[5])
    (fault,) = mentions(f"[  100.{n:06}] {line}" for n, line in enumerate(lines))
    assert not fault.functions


TASK = "CPU: 0 UID: 0 PID: 71 Comm: kcompactd0 Not tainted 6.12.117 #1 PREEMPT(voluntary)"
REPORTS = (
    ("BUG: sleeping function called from invalid context at ./include/linux/percpu-rwsem.h:49",),
    ("foo: page allocation failure: order:9, mode:0x40dc0(GFP_KERNEL), nodemask=(null)",),
    ("Kernel panic - not syncing: KASAN: panic_on_warn set ...",),
    (),
)


def test_a_dump_whose_lines_two_loggers_write_is_one() -> None:
    (fault,) = mentions((*FAULT_LINES[:5], TASK, TASK, FAULT_LINES[5]))
    assert fault.functions == ["isolate_migratepages_block"]


def test_each_fault_has_the_functions_of_its_own_dump() -> None:
    other = ("BUG: unable to handle page fault for address: ffffc9000041f000", FAULT_LINES[1])
    task = TASK.replace("kcompactd0", "kswapd0")
    found = mentions((*FAULT_LINES[:5], TASK, FAULT_LINES[5], *other, task, OTHER_STACK[0]))
    assert [each.functions for each in found] == [
        ["isolate_migratepages_block"],
        ["vmemmap_remap_pte"],
    ]


def test_a_dump_after_lost_lines_is_of_nothing_before_them() -> None:
    earlier, gap = "Allocated by task 9:", "** 5 printk messages dropped **"
    (page,) = mentions((PAGE_LINES[0], earlier, gap, TASK, FAULT_LINES[5]))
    assert not page.functions


def test_a_page_that_is_named_again_much_later_takes_nothing_with_it_to_another_boot() -> None:
    page, other = PAGE_LINES[1], TASK.replace("6.12.117", "6.17.0")
    lines = (TASK, page, FAILED, *["usb 1-1: reset"] * 40, page, other)
    failure = mentions(f"[  100.{n:06}] {line}" for n, line in enumerate(lines))[1]
    assert failure.boot.release == "6.12.117"


def test_a_page_that_two_boots_dump_is_of_the_first_one() -> None:
    other = TASK.replace("6.12.117", "6.17.0")
    (page,) = mentions((PAGE_LINES[1], TASK, PAGE_LINES[1], other))
    assert page.boot.release == "6.12.117"


def test_a_page_takes_no_other_page_with_it_to_another_boot() -> None:
    page, other = PAGE_LINES[1], TASK.replace("6.12.117", "6.17.0")
    found = mentions((TASK, page.replace("2ec0", "2ec7"), page, other))
    assert [each.boot.release for each in found] == ["6.12.117", "6.17.0"]


@pytest.mark.parametrize("lines", (PAGE_LINES, PAGE_LINES[1:]))
def test_a_bad_page_is_of_the_boot_that_dumps_the_stack_after_it(lines: tuple[str, ...]) -> None:
    other = TASK.replace("6.12.117", "6.17.0")
    *before, page = mentions((FAULT_LINES[0], TASK, FAILED, *lines, other))
    assert [each.boot.release for each in before] == ["6.12.117"] * 2
    assert page.boot.release == "6.17.0"


END = "---[ end trace 0000000000000000 ]---"
FIRST_OOPS = (END, FAULT_LINES[5], "RAX: 0000000000000001 RBX: ffffea0000010000")


def test_the_first_oops_that_ends_each_later_one_is_no_part_of_that() -> None:
    second = (
        "BUG: unable to handle page fault for address: ffffc9000041f000",
        "#PF: supervisor read access in kernel mode",
        "Oops: Oops: 0000 [#2] SMP NOPTI",
        "RIP: 0010:vfs_read+0x1/0x2",
        "RAX: 0000000000000002",
    )
    fault, other = mentions((*FAULT_LINES, *FIRST_OOPS, *second, *FIRST_OOPS, FAULT_LINES[6]))
    assert fault.functions == ["isolate_migratepages_block"]
    assert other.functions == ["vfs_read"]
    assert other.registers == {"RAX": 2}


def test_the_address_after_an_oops_that_has_ended_is_no_fault_of_its_own() -> None:
    first = "CR2: ffffea0000020034 CR3: 0000000036022000 CR4: 0000000000771ef0"
    (fault,) = mentions((*FAULT_LINES[:6], END, FAULT_LINES[5], first))
    assert fault.value == 0xFFFFEA0000010034


def test_where_a_log_has_nothing_but_the_end_of_an_oops_its_registers_are_those_of_the_fault() -> (
    None
):
    (address,) = mentions((*FIRST_OOPS, FAULT_LINES[6]))
    assert address.value == 0xFFFFEA0000010034
    (fault,) = mentions((*FAULT_LINES[:5], *FIRST_OOPS))
    assert fault.functions == ["isolate_migratepages_block"]


@pytest.mark.parametrize("report", REPORTS)
def test_functions_of_a_later_report_are_not_the_faults(report: tuple[str, ...]) -> None:
    """It names its task in other words: the oops has tainted the kernel."""
    oops = (*FAULT_LINES[:5], TASK, *FAULT_LINES[5:])
    task = TASK.replace("Not tainted", "Tainted: G      D           ")
    (fault,) = mentions((*oops, *report, task, "Call Trace:", " dump_stack_lvl+0x4/0x6"))
    assert fault.functions == ["isolate_migratepages_block"]
    (fault,) = mentions(line for line in oops for _ in range(2))
    assert fault.functions == ["isolate_migratepages_block"]


@pytest.mark.parametrize(
    "section",
    (
        "Allocated by task 4242:",
        "Freed by task 4242 on cpu 1 at 100.5s:",
        "page last free pid 4242 tgid 4242 stack trace:",
        "page last allocated via order 0, migratetype Unmovable, gfp_mask 0xcc0(GFP_KERNEL)",
        "Uninit was created at:",
        "Uninit was stored to memory at:",
        "Last potentially related work creation:",
        "Allocated in foo_create+0x1c/0x40 [foo] age=71 cpu=1 pid=4242",
        "Freed in vmemmap_remap_pte+0x1/0x2 age=0 cpu=0 pid=71",
        "hardirqs last enabled at (4242): [<ffffffff8132d2f1>] vmemmap_remap_pte+0x1/0x2",
    ),
)
def test_functions_of_the_memorys_past_are_not_those_of_an_access(section: str) -> None:
    access = "Read of size 8 at addr ffffea0000010034 by task foo/71"
    (address,) = mentions((access, TASK, " foo+0x1/0x2", section, " vmemmap_remap_pte+0x1/0x2"))
    assert address.functions == ["foo"]


@pytest.mark.parametrize(
    "lines",
    (
        (
            "Page allocated via order 0, mask 0x0(), pid 71, tgid 71 (foo), ts 1 ns",
            "PFN 0x2ec5 type Unmovable Block 23 type Unmovable Flags 0x17ffffc0000000()",
        ),
        ("unreferenced object 0xff4f3a3a02ff4000 (size 64):", "  backtrace (crc 0):"),
        ("[<0>] vmemmap_restore_pte+0x1/0x2",),
        ("           foo-71      [000] .....   100.500000: <stack trace>",),
        ("task:kworker/u8:3    state:D stack:0     pid:4711  ppid:2", "Call Trace:"),
        ("unchecked MSR access error: RDMSR from 0x1 at rIP: 0xffffffff8132d2f1 (foo+0x1/0x2)",),
        ("1 lock held by foo/71:", " #0: ff4f3a3a02ff4000 (&x){+.+.}-{3:3}, at: foo+0x1/0x2"),
        ("foo/71 is trying to acquire lock:", "ff4f3a3a02ff4000 (&x){}, at: foo+0x1/0x2"),
        ("Preemption disabled at:", "[<ffffffff8132d2f1>] foo+0x1/0x2"),
        ("BUG: KMSAN: uninit-value in foo+0x1/0x2",),
    ),
    ids=lambda lines: lines[0],
)
def test_functions_of_what_was_looked_at_after_a_fault_are_not_the_faults(
    lines: tuple[str, ...],
) -> None:
    fault = mentions((*FAULT_LINES, *lines, " vmemmap_remap_pte+0x1/0x2"))[0]
    assert fault.functions == ["isolate_migratepages_block"]


def test_registers_after_the_memorys_past_are_those_of_the_access() -> None:
    """KFENCE writes them at the end of its report."""
    access = "Out-of-bounds read at 0xffffea0000010034 (1B left of kfence-#72):"
    past = ("allocated by task 4242 on cpu 0 at 32.919330s:", " vmemmap_remap_pte+0x1/0x2")
    (address,) = mentions((access, " foo+0x1/0x2", *past, TASK, FAULT_LINES[6]))
    assert address.functions == ["foo"]
    assert address.registers["CR4"] == 0x771EF0


def test_a_corrupted_list_has_the_functions_of_the_bug_that_follows() -> None:
    corrupted = "list_del corruption, ffffea0000010048->next is NULL"
    (address,) = mentions((corrupted, "kernel BUG at lib/list_debug.c:1!", FAULT_LINES[5]))
    assert address.functions == ["isolate_migratepages_block"]


def test_a_page_that_a_reader_mentions_takes_no_functions() -> None:
    comment = "Interesting: pfn 0x2ec7 is a tail."
    fault, page = mentions((*FAULT_LINES[:5], comment, *FAULT_LINES[5:]))
    assert fault.functions == ["isolate_migratepages_block"]
    assert not page.functions
