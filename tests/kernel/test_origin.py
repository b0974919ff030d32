# SPDX-License-Identifier: LGPL-2.1-or-later

"""Which dump of which machine it is: said where it is known, and never believed blindly."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path

import pytest

from drgn_vmemmap.errors import MissingMemory
from drgn_vmemmap.kernel.origin import Origin, read_origin
from drgn_vmemmap.output.head import named_origin
from tests.support import open_vmcore, vmcore
from tests.synthetic.image import Image
from tests.synthetic.model import Machine

ADDRESS = 0xFFFFFFFF82000000
NAMES = b"Linux".ljust(65, b"\0") + b"db-17".ljust(65, b"\0") + bytes(4 * 65)


class NamedImage(Image):
    """Of a kernel whose VMCOREINFO has more lines."""

    lines = ""

    @property
    def vmcoreinfo(self) -> str:
        return super().vmcoreinfo + self.lines


def origin(lines: str, memory: bytes = b"") -> Origin:
    """
    :param lines: Of VMCOREINFO.
    :param memory: What is in memory from :data:`ADDRESS` on.
    """
    NamedImage.lines = lines

    def read(address: int, size: int) -> bytes:
        found = memory[address - ADDRESS :][:size] if address >= ADDRESS else b""
        if len(found) < size:
            raise MissingMemory("the page")
        return found

    return read_origin(NamedImage(Machine()).prog, read)


def symbol(offset: int | None) -> str:
    line = f"SYMBOL(init_uts_ns)={ADDRESS:x}\n"
    return line if offset is None else f"{line}OFFSET(uts_namespace.name)={offset}\n"


@pytest.mark.parametrize(("offset", "before"), ((0, 0), (4, 4), (None, 0), (None, 4)))
def test_the_host_has_its_name_in_the_initial_namespace(offset: int | None, before: int) -> None:
    assert origin(symbol(offset), bytes(before) + NAMES).host == "db-17"


@pytest.mark.parametrize(
    ("lines", "memory"),
    (
        ("", NAMES),
        (symbol(0), b""),
        (symbol(0), NAMES[:100]),
        (symbol(0), bytes(500)),
        (symbol(0), b"Linux".ljust(500, b"\0")),
        (symbol(0), NAMES.replace(b"db-17\0", b"(none)")),
        (symbol(10**30), NAMES),
        ("SYMBOL(init_uts_ns)=zzzz\n", NAMES),
    ),
)
def test_a_host_that_is_not_known_has_no_name(lines: str, memory: bytes) -> None:
    assert origin(lines, memory).host is None


def test_a_hostile_name_is_no_control_sequence() -> None:
    hostile = NAMES.replace(b"db-17", b"\33[2J\xff")
    assert origin(symbol(0), hostile).host == r"\x1b[2J\xff"


@pytest.mark.parametrize(
    ("line", "time"),
    (
        ("CRASHTIME=1700000000\n", datetime(2023, 11, 14, 22, 13, 20, tzinfo=timezone.utc)),
        ("", None),
        ("CRASHTIME=never\n", None),
        ("CRASHTIME=99999999999999999999\n", None),
        (f"CRASHTIME={'9' * 5000}\n", None),
    ),
)
def test_a_crash_has_the_time_that_vmcoreinfo_has(line: str, time: datetime | None) -> None:
    assert origin(line).crash_time == time


def test_a_recorded_dump_is_named_with_its_file_and_time(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    path = vmcore("filtered-kdump")
    found = read_origin(open_vmcore("filtered-kdump"), lambda address, size: b"")
    assert found.file == str(path)
    assert named_origin(found) == f"{path}, crashed 2026-11-23 14:28:01 UTC"
    monkeypatch.chdir(path.parent)
    assert named_origin(found).startswith("filtered-kdump.vmcore, ")
