# SPDX-License-Identifier: LGPL-2.1-or-later

"""An extract holds what the report needs, and nothing of a user's."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Callable, NamedTuple

import pytest

from drgn_vmemmap import examine
from drgn_vmemmap.cli import command_line
from drgn_vmemmap.errors import CannotAnalyse
from drgn_vmemmap.extract.recording import Written, extract
from drgn_vmemmap.kernel.lookup import Lookup
from drgn_vmemmap.paging.x86_64 import PAGE_SHIFT, PAGE_SIZE
from drgn_vmemmap.target.memory import ProgramMemory
from drgn_vmemmap.target.recorded_pages import marks_in
from tests.extract.machine import SECRET, Machine, has_secret
from tests.support import open_vmcore


def extracted(machine: Machine, path: Path, compress: bool) -> Written:
    return extract(machine.program(), str(path), compress)


class Extract(NamedTuple):
    """An extract of a machine on which nothing was changed."""

    path: Path
    written: Written


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, bool], Extract]:
    """Extracts by the machine's name, and whether they are compressed."""

    @cache
    def of(name: str, compress: bool) -> Extract:
        path = tmp_path_factory.mktemp(name) / "vmcore"
        return Extract(path, extracted(Machine(name), path, compress))

    return of


@pytest.mark.long
@pytest.mark.parametrize(
    ("name", "compress"),
    (("filtered-kdump", True), ("head-reuse", True), ("head-reuse", False), ("shared-tail", False)),
)
def test_nothing_but_what_was_recorded_is_written(
    name: str, compress: bool, sound: Callable[[str, bool], Extract]
) -> None:
    path, written = sound(name, compress)
    assert written.withheld == []
    assert not has_secret(path)


def test_the_search_finds_a_secret(tmp_path: Path) -> None:
    path = tmp_path / "vmcore"
    path.write_bytes(bytes(100) + SECRET[8:16] + bytes(100))
    assert has_secret(path)


@cache
def first_frames(name: str) -> tuple[int, int, int]:
    """Of the first optimized folio: its head's frame, its tails' frame, and its page table's."""
    machine = Machine(name)
    folio = next(each for each in examine(machine.program()).folios if each.judgement.shared)
    address = machine.snapshot.geometry.address(folio.folio.pfn)
    head = machine.snapshot.walker.entry(address)
    tail = machine.snapshot.walker.entry(address + PAGE_SIZE)
    assert head.frame is not None
    assert tail.frame is not None
    return head.frame, tail.frame, head.raw_address // PAGE_SIZE


HEAD, TAILS, TABLE = range(3)


@pytest.mark.long
@pytest.mark.parametrize(
    ("name", "which", "compress"),
    (
        ("shared-tail", HEAD, False),
        ("shared-tail", TAILS, False),
        ("shared-tail", TABLE, False),
        ("head-reuse", HEAD, True),
        ("head-reuse", TAILS, False),
        ("head-reuse", TABLE, False),
    ),
)
def test_a_frame_that_holds_a_users_page_is_withheld(
    name: str, which: int, compress: bool, tmp_path: Path
) -> None:
    machine = Machine(name)
    frame = first_frames(name)[which]
    machine.changed[frame] = SECRET
    path = tmp_path / "vmcore"
    written = extracted(machine, path, compress)
    assert not has_secret(path)
    assert frame in [withheld.frame for withheld in written.withheld]
    assert f"frame {frame:#x}" in str(written.withheld[0])


@pytest.mark.long
def test_the_command_names_what_it_withholds(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    machine = Machine("shared-tail")
    frame = first_frames("shared-tail")[TAILS]
    machine.changed[frame] = SECRET
    command_line.run(["extract", str(tmp_path / "vmcore")], machine.program())
    (line,) = (each for each in capsys.readouterr().err.splitlines() if "withheld: " in each)
    assert f"frame {frame:#x}" in line


@pytest.mark.long
@pytest.mark.parametrize("name", ("shared-tail", "head-reuse"))
def test_a_short_secret_in_an_empty_page_table_is_withheld(name: str, tmp_path: Path) -> None:
    machine = Machine(name)
    _, _, table = first_frames(name)
    machine.changed[table] = bytes(512) + SECRET[:32] + bytes(4096 - 544)
    path = tmp_path / "vmcore"
    extracted(machine, path, compress=False)
    assert not has_secret(path)


@pytest.mark.long
def test_a_compressed_extract_knows_of_a_page_what_an_elf_one_knows(
    sound: Callable[[str, bool], Extract],
) -> None:
    elf, kdump = (sound("head-reuse", compress).path for compress in (False, True))
    pages = sorted(marks_in(str(kdump)).parts)
    assert pages
    memories = [ProgramMemory(open_vmcore(path)) for path in (elf, kdump)]
    for pfn in pages[:: len(pages) // 20]:
        addresses = range(pfn << PAGE_SHIFT, pfn + 1 << PAGE_SHIFT, 64)
        in_elf, in_kdump = (memory.read_each(addresses, 64) for memory in memories)
        assert None in in_elf
        assert in_elf == in_kdump


def test_no_extract_is_written_where_the_kernels_image_is_not_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other memory from boot has the command line: not all that is reserved may be written."""
    known = Lookup.address
    monkeypatch.setattr(
        Lookup, "address", lambda lookup, name: None if name == "_end" else known(lookup, name)
    )
    path = tmp_path / "vmcore"
    with pytest.raises(CannotAnalyse, match=r"^no extract: .* command line.* \(_text, _end\)$"):
        extract(open_vmcore("head-reuse"), str(path), compress=False)
    assert not path.exists()
