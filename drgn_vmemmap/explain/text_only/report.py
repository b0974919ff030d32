# SPDX-License-Identifier: LGPL-2.1-or-later

"""Statements that a log proves without a dump: certain, likely, or said to be unknown."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from drgn_vmemmap.explain.log.boot import Boot
from drgn_vmemmap.explain.log.mention import Mention
from drgn_vmemmap.explain.log.reader import find_mentions
from drgn_vmemmap.explain.messages.message import Kind
from drgn_vmemmap.explain.text.line import Line
from drgn_vmemmap.explain.text_only.addresses import address_statements
from drgn_vmemmap.explain.text_only.pages import page_statements
from drgn_vmemmap.explain.text_only.statements import Statement, certain, unknown
from drgn_vmemmap.paging.x86_64 import PAGE_SHIFT


class Account(NamedTuple):
    """All that a text says of one fault, page or address."""

    mention: Mention
    statements: list[Statement]


@dataclass
class TextReport:
    """All statements on a text."""

    accounts: list[Account] = field(default_factory=list)
    boots: list[list[Statement]] = field(default_factory=list)
    """Statements on each boot that wrote the text."""
    collect: list[str] = field(default_factory=list)
    """Files to collect next, in words."""
    dropped: int = 0
    """How many faults, pages and addresses there are beyond these."""
    unnamed: int = 0
    """How many page faults there are whose addresses are not in the text."""
    architectures: set[str] = field(default_factory=set)
    """The architectures of kernels that wrote it, by their names, other than x86-64."""


def text_only(lines: Iterable[Line]) -> TextReport:
    """
    What a text proves by itself.

    :param lines: The log.
    """
    found = find_mentions(lines)
    boots: list[Boot] = []
    for mention in found.named:
        if not any(mention.boot is boot for boot in boots):
            boots.append(mention.boot)
    return TextReport(
        [Account(mention, list(_statements(mention))) for mention in found.named],
        [list(_boot_statements(boot)) for boot in boots],
        list(_collect(found.named)),
        found.dropped,
        found.unnamed,
        found.architectures,
    )


def _statements(mention: Mention) -> Iterator[Statement]:
    if mention.architecture is not None:
        yield unknown(f"what it is: the kernel was one for {mention.architecture}")
    elif mention.kind is Kind.PFN:
        yield from page_statements(mention, mention.value)
    elif mention.kind is Kind.PHYSICAL:
        yield certain(f"it is in the page of PFN {mention.value >> PAGE_SHIFT:#x}")
        yield from page_statements(mention, mention.value >> PAGE_SHIFT)
    else:
        yield from address_statements(mention)


# Boots, and what to do next.


def _boot_statements(boot: Boot) -> Iterator[Statement]:
    if boot.release:
        yield certain(f"the kernel was {boot.release}")
    else:
        yield unknown("the kernel's release")
    if boot.other_architecture is not None:
        yield certain(f"it was one for {boot.other_architecture}")
        return
    if boot.kernel_offset is not None:
        how = "off" if boot.memory_is_fixed else f"on, by {boot.kernel_offset:#x}"
        yield certain(f"KASLR of the kernel's image was {how}")
    elif boot.memory_is_fixed:
        yield certain("KASLR was off, by the command line's nokaslr")
    else:
        yield unknown("whether KASLR was on: no Kernel Offset, and no command line with nokaslr")
    if boot.vmemmap is not None:
        yield certain(f"the vmemmap began at {boot.vmemmap:#x}")
    enabled = boot.hvo_at_boot
    if boot.command_line is None:
        yield unknown("whether HVO was on: no command line, and it can be switched at run time")
    elif enabled is None:
        yield unknown(
            "whether HVO was on: the command line does not say, and it can be switched at run time"
        )
    else:
        yield certain(f"HVO was switched {'on' if enabled else 'off'} by the command line")


def _collect(named: list[Mention]) -> Iterator[str]:
    mentions = [mention for mention in named if mention.architecture is None]
    if not mentions:
        return
    boots = [mention.boot for mention in mentions]
    absent = [
        name
        for name, values in (
            ("release", [boot.release for boot in boots]),
            ("command line", [boot.command_line for boot in boots]),
        )
        if None in values
    ]
    if absent:
        names = " and ".join(absent)
        yield f"the log from its first line on (journalctl -k -b -1), for its {names}"
    if any(boot.kernel_offset is None and not boot.memory_is_fixed for boot in boots):
        yield "the end of the log, if it ended in a panic, for the line Kernel Offset"
    if any(mention.is_page_fault and mention.walk is None for mention in mentions):
        yield "the lines after the fault: #PF, and PGD to PTE, which say how the page was mapped"
    yield (
        "a vmcore (kdump, or dump-guest-memory of QEMU) of the same boot, and then: "
        "drgn-vmemmap -c vmcore explain --stdin < log"
    )
    yield (
        "from a running kernel of the same configuration: /proc/cmdline, "
        "/proc/sys/vm/hugetlb_optimize_vmemmap, nr_memmap* of /proc/vmstat, "
        "/sys/kernel/mm/hugepages/*/nr_hugepages"
    )
