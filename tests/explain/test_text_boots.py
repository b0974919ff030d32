# SPDX-License-Identifier: LGPL-2.1-or-later

"""What a text says of the boots that wrote it, and what to collect next."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from drgn_vmemmap.explain.text_only.statements import Certainty
from tests.explain.logs import LOG, OOPS
from tests.explain.reading import Said, assert_said, report_on

CERTAIN, UNKNOWN = Certainty.CERTAIN, Certainty.UNKNOWN
MOVED = "Kernel Offset: 0x1c00000 from 0xffffffff81000000"
NO_RELEASE = (UNKNOWN, "the kernel's release")
NO_KASLR = (UNKNOWN, "whether KASLR was on: no Kernel Offset, and no command line with nokaslr")
NO_COMMAND_LINE = (UNKNOWN, "whether HVO was on: no command line")
RELEASE = "Linux version 6.12.117 (x)"
FAILURE = ("Memory failure: 0x2ec5: x",)


@pytest.mark.parametrize(
    ("lines", "expected"),
    (
        (FAILURE, (NO_RELEASE, NO_KASLR, NO_COMMAND_LINE)),
        (
            (RELEASE, "Command line: ro", *FAILURE, MOVED),
            (
                (CERTAIN, "the kernel was 6.12.117"),
                (CERTAIN, "KASLR of the kernel's image was on, by 0x1c00000"),
                (UNKNOWN, "whether HVO was on: the command line does not say"),
            ),
        ),
        (
            (*FAILURE, "Kernel Offset: disabled"),
            (NO_RELEASE, (CERTAIN, "KASLR of the kernel's image was off"), NO_COMMAND_LINE),
        ),
        (
            (*FAILURE, "page:ffffea0000000000 refcount:0 mapcount:0 mapping:0 index:0x0 pfn:0x0"),
            (
                NO_RELEASE,
                NO_KASLR,
                (CERTAIN, "the vmemmap began at 0xffffea0000000000"),
                NO_COMMAND_LINE,
            ),
        ),
        (
            ("Linux version 6.12.117-arm64 (x)", *FAILURE),
            ((CERTAIN, "the kernel was 6.12.117-arm64"), (CERTAIN, "it was one for arm64")),
        ),
    ),
)
def test_of_a_boot_its_release_kaslr_and_hvo_are_told(lines: Sequence[str], expected: Said) -> None:
    (boot,) = report_on(lines).boots
    assert_said(boot, expected)


def test_a_boot_is_described_once_whatever_it_names() -> None:
    assert len(report_on(LOG).boots) == 1
    boots = report_on((RELEASE, *OOPS, "Linux version 6.1.0 (x)", *FAILURE)).boots
    assert [boot[0].text for boot in boots] == ["the kernel was 6.12.117", "the kernel was 6.1.0"]


BEGINNING = "the log from its first line on (journalctl -k -b -1), for its "
END = "the end of the log, if it ended in a panic, for the line Kernel Offset"
REST = "the lines after the fault: #PF, and PGD to PTE, which say how the page was mapped"
GPF = "Oops: general protection fault, probably for non-canonical address 0xdead000000000108: 0000"


@pytest.mark.parametrize(
    ("lines", "lacking"),
    (
        (OOPS[:2], (f"{BEGINNING}release and command line", END, REST)),
        ((GPF, *OOPS[:2]), (f"{BEGINNING}release and command line", END, REST)),
        ((RELEASE, *OOPS), (f"{BEGINNING}command line", END)),
        ((RELEASE, "Command line: ro nokaslr", *OOPS), ()),
        (
            (RELEASE, "Command line: ro", *OOPS, "Linux version 6.1.0 (x)", *FAILURE, MOVED),
            (f"{BEGINNING}command line", END),
        ),
    ),
)
def test_a_dump_and_settings_are_asked_for_after_what_the_log_lacks(
    lines: Sequence[str], lacking: Sequence[str]
) -> None:
    *first, dump, settings = report_on(lines).collect
    assert first == list(lacking)
    assert dump.startswith("a vmcore (kdump, or dump-guest-memory of QEMU) of the same boot")
    assert settings.startswith("from a running kernel of the same configuration: /proc/cmdline")
