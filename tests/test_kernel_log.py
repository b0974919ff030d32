# SPDX-License-Identifier: LGPL-2.1-or-later

"""The addresses and PFNs that the kernel's log names."""

from __future__ import annotations

from pathlib import Path

import drgn
import pytest

from drgn_vmemmap import discover
from drgn_vmemmap.kernel_log import NoLog, lines, mentions, read_log

HEAD_REUSE = Path(__file__).parent.parent / "vmcores" / "head-reuse.vmcore"


def named(*log: str) -> set[tuple[int, bool, bool]]:
    return {(m.value, m.is_pfn, m.is_fault) for m in mentions(log)}


@pytest.mark.parametrize(
    "line",
    (
        "BUG: unable to handle page fault for address: ffffea0000010034",
        "BUG: kernel NULL pointer dereference, address: ffffea0000010034",
        "BUG: unable to handle kernel paging request at ffffea0000010034",
    ),
)
def test_the_address_of_a_fault_is_named(line: str) -> None:
    assert named(line) == {(0xFFFFEA0000010034, False, True)}


@pytest.mark.parametrize(
    "line",
    (
        "BUG: Bad page state in process cat  pfn:02c43",
        "page:00000000b1946ac5 refcount:0 mapcount:0 mapping:0 index:0x0 pfn:0x2c43",
        "page: refcount:0 mapcount:0 mapping:0000000000000000 index:0x0 pfn:0x2c43",
        "HugeTLB: unexpected refcount on PFN 11331",
    ),
)
def test_the_pfn_of_a_bad_page_is_named(line: str) -> None:
    assert (0x2C43, True, False) in named(line)


def test_registers_are_named_as_mere_values() -> None:
    line = "RDX: ffffea0000010034 RSI: ff725593005ebcf0 RDI: ff725593005ebcdf"
    values = named(line)
    assert (0xFFFFEA0000010034, False, False) in values
    assert not any(is_fault for _, _, is_fault in values)


def test_what_is_named_often_is_named_once_with_its_first_line() -> None:
    fault = "BUG: unable to handle page fault for address: ffffea0000010034"
    (mention,) = mentions([fault, "CR2: ffffea0000010034", "RDX: ffffea0000010034"])
    assert (mention.line, mention.times, mention.is_fault) == (fault, 3, True)


def test_a_log_of_nothing_but_numbers_ends() -> None:
    log = (f"{number:016x}" for number in range(1 << 63, (1 << 63) + 10_000))
    assert len(mentions(log)) == 4096


def test_what_a_terminal_would_act_on_is_shown_as_an_escape() -> None:
    assert list(lines("a\x1b[31mb\nc\x07")) == ["a\\x1b[31mb", "c\\x07"]


def test_a_dump_without_its_log_says_so() -> None:
    prog = drgn.Program()
    prog.set_core_dump(str(HEAD_REUSE))
    discover(prog)
    with pytest.raises(NoLog, match="not in the dump"):
        read_log(prog)
