# SPDX-License-Identifier: LGPL-2.1-or-later

"""Kinds of lines that say something of the boot: its kernel, and where KASLR put it."""

from __future__ import annotations

import re
from functools import partial
from typing import Callable, NamedTuple

from drgn_vmemmap.explain.log.boot import Boot, levels_of_cr4, levels_of_walk
from drgn_vmemmap.explain.messages.architectures import ARCHITECTURE_LINES, X86_64

_LEVELS = re.compile(
    r"\bCR4: (?P<cr4>[0-9a-f]{16})\b"
    r"|\bPGD (?P<pgd>(?!0\b)[0-9a-f]{1,16}) P4D (?P<p4d>[0-9a-f]{1,16})\b",
    re.IGNORECASE,
)


class BootFact(NamedTuple):
    """A kind of line that belongs to the boot."""

    keyword: str
    """Lower-case text that each such line holds."""
    pattern: re.Pattern[str]
    add: Callable[[Boot, re.Match[str]], None]
    is_of_another: Callable[[Boot, re.Match[str]], bool] = lambda boot, match: False
    """Whether a line was certainly written by another boot than the lines before it."""
    ends_a_boot: bool = False
    """Whether it is among the last lines of a boot; otherwise, it is a line of an oops."""


# Functions that take from a line what it says of the boot.


def _release(boot: Boot, match: re.Match[str]) -> None:
    """The release, as each oops names it."""
    boot.add_release(match["release"])
    boot.build_id = boot.build_id or match["build"]


def _release_of_crash(boot: Boot, match: re.Match[str]) -> None:
    """The release, as crash names it when it starts."""
    boot.add_release(match["release"])


def _offset(boot: Boot, match: re.Match[str]) -> None:
    """Where KASLR put the kernel, as a panic names it."""
    boot.kernel_offset = _offset_in(match)
    boot.kaslr_is_disabled = match["offset"] is None


def _offset_in(match: re.Match[str]) -> int:
    return int(match["offset"] or "0", 16)


def _is_of_another_kernel(boot: Boot, match: re.Match[str]) -> bool:
    return boot.has_other_release(match["release"])


def _is_at_another_offset(boot: Boot, match: re.Match[str]) -> bool:
    return boot.has_other_offset(_offset_in(match))


def _base(boot: Boot, match: re.Match[str]) -> None:
    """A struct page's address beside its PFN: together they give the vmemmap's base."""
    boot.add_struct_page(int(match["address"], 16), int(match["pfn"], 16))


def _levels_in(match: re.Match[str]) -> int:
    if match["cr4"]:
        return levels_of_cr4(int(match["cr4"], 16))
    return levels_of_walk(int(match["pgd"], 16), int(match["p4d"], 16))


def _levels(boot: Boot, match: re.Match[str]) -> None:
    """How many levels the page tables have."""
    boot.levels = _levels_in(match)


def _has_other_levels(boot: Boot, match: re.Match[str]) -> bool:
    return boot.has_other_levels(_levels_in(match))


def _is_in_another_vmemmap(boot: Boot, match: re.Match[str]) -> bool:
    return boot.has_other_vmemmap(int(match["address"], 16), int(match["pfn"], 16))


def _other_architecture(name: str, boot: Boot, _match: re.Match[str]) -> None:
    """A line of a kernel for another architecture."""
    boot.add_architecture(name)


def _x86_64(boot: Boot, _match: re.Match[str]) -> None:
    """A line of a kernel for x86-64."""
    boot.is_x86_64 = True


def _command_line(boot: Boot, match: re.Match[str]) -> None:
    """The kernel's command line."""
    boot.command_line = match["line"]


BOOT_FACTS = (
    BootFact(
        "tainted",
        re.compile(
            r"\bComm: .{1,80}?(?:Not tainted|Tainted: [A-Z -]{1,80}?) "
            r"(?P<release>\d+\.\d+[^\s#]{0,80})"
            r"(?: #\S+(?: [A-Z]\S*){0,4} (?P<build>[0-9a-f]{40})\b)?"
        ),
        _release,
        _is_of_another_kernel,
    ),
    BootFact(
        "release: ",
        re.compile(r"\bRELEASE: (?P<release>\d+\.\d+[^\s#]{0,80})"),
        _release_of_crash,
        _is_of_another_kernel,
    ),
    BootFact(
        "kernel offset:",
        re.compile(r"Kernel Offset: (?:0x(?P<offset>[0-9a-f]{1,16})|disabled)", re.I),
        _offset,
        _is_at_another_offset,
        ends_a_boot=True,
    ),
    BootFact(
        "pfn:",
        re.compile(
            r"\bpage: ?(?P<address>[0-9a-f]{16}) .{1,120}?\bpfn: ?0x(?P<pfn>[0-9a-f]{1,16})\b", re.I
        ),
        _base,
        _is_in_another_vmemmap,
    ),
    *(BootFact(keyword, _LEVELS, _levels, _has_other_levels) for keyword in ("cr4: ", "pgd ")),
    BootFact(
        "command line:",
        re.compile(r"(?:Kernel )?command line: (?P<line>.{1,2048})", re.I),
        _command_line,
    ),
    BootFact("rip: 00", X86_64, _x86_64),
    BootFact("entry_syscall_64", X86_64, _x86_64),
    *(
        BootFact(line.keyword, line.pattern, partial(_other_architecture, line.name))
        for line in ARCHITECTURE_LINES
    ),
)
"""What lines say of the boot."""
