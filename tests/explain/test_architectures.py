# SPDX-License-Identifier: LGPL-2.1-or-later

"""Logs of kernels for other architectures: what they name is listed, and not explained."""

from __future__ import annotations

import pytest

from drgn_vmemmap.explain.messages.architectures import architecture_of_release, why_not_explained
from drgn_vmemmap.explain.messages.message import Kind
from drgn_vmemmap.explain.text.read import read_text
from drgn_vmemmap.explain.text_only.report import text_only
from drgn_vmemmap.explain.text_only.statements import Certainty
from tests.explain.forms import FORMS
from tests.explain.logs import FAULT, OOPS
from tests.explain.reading import mentions_in, report_on
from tests.support import vmcore, vmemmap

FAILURE = "Memory failure: 0x2ec5: recovery action for huge page: Recovered"
OOPSES = {
    "arm64": (
        "Unable to handle kernel paging request at virtual address fffffc0008a80034",
        "Mem abort info:",
        "  ESR = 0x000000009600004f",
        "  EC = 0x25: DABT (current EL), IL = 32 bits",
        "swapper pgtable: 4k pages, 48-bit VAs, pgdp=0000000041f0c000",
        "[fffffc0008a80034] pgd=10000000bfff8003, p4d=10000000bfff8003, pte=0060000043a00783",
        "Internal error: Oops: 000000009600004f [#1] PREEMPT SMP",
        "CPU: 1 PID: 71 Comm: kcompactd0 Not tainted 6.12.117 #1",
        "pstate: 60400005 (nZCv daif +PAN -UAO -TCO -DIT -SSBS BTYPE=--)",
        "pc : isolate_migratepages_block+0x2f0/0x1520",
        "x29: ffff80008300bb00 x28: fffffc0008a80000 x27: 0000000000000000",
    ),
    "32-bit ARM": (
        "Unable to handle kernel paging request at virtual address c0a80034 when write",
        "[c0a80034] *pgd=00000000",
        "Internal error: Oops: 805 [#1] SMP ARM",
        "pc : [<c0445566>]    lr : [<c0445500>]    psr: 60000013",
    ),
    "RISC-V": (
        "Unable to handle kernel paging request at virtual address ffffffe008a80034",
        "epc : isolate_migratepages_block+0x2f0/0x1520",
        "epc : ffffffff80445566 ra : ffffffff80445500 sp : ff60000080318000",
        "status: 0000000200000120 badaddr: ffffffe008a80034 cause: 000000000000000f",
    ),
    "PowerPC": (
        "BUG: Unable to handle kernel data access on write at 0xc00c000000a80034",
        "Faulting instruction address: 0xc000000000445566",
        "LE PAGE_SIZE=64K MMU=Radix SMP NR_CPUS=2048 NUMA pSeries",
        "NIP:  c000000000445566 LR: c000000000445500 CTR: 0000000000000000",
    ),
    "s390": (
        "Unable to handle kernel pointer dereference in virtual kernel address space",
        "Failing address: 0000037200a80000 TEID: 0000037200a80803",
        "Krnl PSW : 0704c00180000000 0000000000445566 (isolate_migratepages_block+0x2f0/0x1520)",
    ),
    "LoongArch": (
        "CPU 3 Unable to handle kernel paging request at virtual address 9000000000a80034, "
        "era == 9000000000445566, ra == 9000000000445500",
        " BADV: 9000000000a80034",
    ),
    "MIPS": (
        "CPU 3 Unable to handle kernel paging request at virtual address 8000000000a80034, "
        "epc == ffffffff80445566, ra == ffffffff80445500",
    ),
    "32-bit x86": (
        "BUG: unable to handle page fault for address: f6a80034",
        "#PF: supervisor write access in kernel mode",
        "#PF: error_code(0x0003) - permissions violation",
        "*pdpt = 0000000001d0a001 *pde = 0000000037fe5063 *pte = 8000000036a80161",
        "EIP: isolate_migratepages_block+0x2f0/0x1520",
        "EAX: 00000001 EBX: f6a80000 ECX: 00000000 EDX: 00000000",
    ),
}
FAULTS = {
    "arm64": 0xFFFFFC0008A80034,
    "32-bit ARM": 0xC0A80034,
    "RISC-V": 0xFFFFFFE008A80034,
    "PowerPC": 0xC00C000000A80034,
    "s390": 0x37200A80000,
    "LoongArch": 0x9000000000A80034,
    "MIPS": 0x8000000000A80034,
    "32-bit x86": 0xF6A80034,
}


@pytest.mark.parametrize("form", ("dmesg", "quoted, tabs", "journalctl -o json"))
@pytest.mark.parametrize("name", OOPSES)
def test_what_a_log_of_another_architecture_names_is_listed(name: str, form: str) -> None:
    report = text_only(read_text(FORMS[form]((*OOPSES[name], FAILURE))).lines)
    assert report.architectures == {name}
    named = {(each.mention.kind, each.mention.value) for each in report.accounts}
    assert named == {(Kind.FAULT, FAULTS[name]), (Kind.PFN, 0x2EC5)}
    for account in report.accounts:
        (statement,) = account.statements
        assert statement.certainty is Certainty.UNKNOWN and name in statement.text
    assert (report.collect, report.unnamed) == ([], 0)


def test_a_null_pointer_of_32_bits_is_named() -> None:
    first = "BUG: kernel NULL pointer dereference, address: 000000c8"
    lines = "\n".join((first, *OOPSES["32-bit x86"][1:]))
    found = mentions_in([lines])
    assert [mention.value for mention in found.named] == [0xC8]
    assert found.unnamed == 0


@pytest.mark.parametrize("name", [name for name, lines in OOPSES.items() if len(lines) > 1])
def test_the_lines_after_the_first_show_the_architecture(name: str) -> None:
    found = mentions_in(OOPSES[name][1:])
    assert found.architectures == {name}


BAD_PAGE = "BUG: Bad page state in process swapper/0  pfn:02ec5"
STACKS = {
    "arm64": (" el1_irq+0xb4/0x140", " el0t_64_sync_handler+0xa4/0x130", " el0_svc+0x2c/0x88"),
    "32-bit ARM": (" unwind_backtrace from show_stack+0x10/0x14",),
    "PowerPC": ("[c00000000386b8a0] [c000000000d3a1b4] dump_stack_lvl+0x6c/0x9c (unreliable)",),
    "another architecture": ("Hardware name: linux,dummy-virt (DT)", " dump_backtrace+0x0/0x2ec"),
}


@pytest.mark.parametrize("name", STACKS)
def test_a_stack_without_registers_shows_the_architecture(name: str) -> None:
    for line in STACKS[name]:
        report = report_on((BAD_PAGE, line))
        assert report.architectures == {name}


def test_a_stack_of_x86_64_is_known_by_its_entry() -> None:
    stack = (" dump_backtrace+0x0/0x2ec", " entry_SYSCALL_64_after_hwframe+0x76/0x7e")
    report = report_on((BAD_PAGE, *stack))
    assert report.architectures == set()


# A fault of x86-64 that was cut off may look like one of 32-bit x86.
@pytest.mark.parametrize("name", sorted(OOPSES.keys() - {"32-bit x86"}))
def test_a_fault_of_x86_64_beside_one_of_another_architecture_is_explained(name: str) -> None:
    lines = (*OOPSES[name], *OOPS)
    report = report_on(lines)
    explained = {each.mention.value: len(each.statements) for each in report.accounts}
    assert explained[FAULT] > 3
    assert explained[FAULTS[name]] == 1


def test_an_address_that_was_cut_off_is_not_one_of_32_bits() -> None:
    lines = [OOPS[0][:-8], *OOPS[1:]]
    (mention,) = mentions_in(lines).named
    assert (mention.value, mention.architecture) == (FAULT, None)


@pytest.mark.parametrize("target", ((), ("-c", vmcore("head-reuse"))))
def test_a_log_of_another_architecture_is_called_that_in_one_line(
    target: tuple[object, ...],
) -> None:
    done = vmemmap(*target, "explain", "--stdin", input="\n".join((*OOPSES["arm64"], FAILURE)))
    assert done.returncode == 3
    assert done.stderr == (
        "drgn-vmemmap: the log is of a kernel for arm64: what it names is listed, not explained\n"
    )
    assert "0xfffffc0008a80034" in done.stdout and "0x2ec5" in done.stdout
    assert "vmemmap page" not in done.stdout


@pytest.mark.parametrize(
    ("release", "name"),
    (
        ("6.1.0-13-arm64", "arm64"),
        ("5.14.0-503.el9.aarch64+64k", "arm64"),
        ("6.1.0-13-686-pae", "32-bit x86"),
        ("6.4.0-150600.21-default", None),
        ("6.12.0-1.el10.ppc64le", "PowerPC"),
        ("6.12.0-1.el10.s390x", "s390"),
        ("6.12.9-riscv64", "RISC-V"),
        ("6.12.117+deb13-cloud-amd64", None),
        ("5.14.0-503.el9.x86_64", None),
    ),
)
def test_a_release_names_the_architecture(release: str, name: str | None) -> None:
    assert architecture_of_release(release) == name
    log = f"Linux version {release} (gcc)\n{FAILURE}\n"
    assert mentions_in([log]).architectures == ({name} if name else set())


def test_an_architecture_without_a_name_is_said_to_be_another_one() -> None:
    line = OOPSES["arm64"][0]
    report = report_on([line])
    assert why_not_explained(report.architectures) == (
        "the log is of a kernel for another architecture: what it names is listed, not explained"
    )


def test_two_architectures_are_both_named() -> None:
    lines = (*OOPSES["arm64"], "Linux version 6.1.0-13-s390x (gcc)", *OOPSES["s390"])
    report = report_on(lines)
    assert report.architectures == {"arm64", "s390"}
    assert "arm64 and s390:" in (why_not_explained(report.architectures) or "")
