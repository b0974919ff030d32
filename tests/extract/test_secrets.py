# SPDX-License-Identifier: LGPL-2.1-or-later

"""An extract holds what the report needs, and nothing of a user's."""

from __future__ import annotations

from pathlib import Path

import pytest

from drgn_vmemmap import examine
from drgn_vmemmap.cli import command_line
from drgn_vmemmap.errors import CannotAnalyse
from drgn_vmemmap.extract.recording import Written, extract
from drgn_vmemmap.kernel.lookup import Lookup
from drgn_vmemmap.paging.x86_64 import PAGE_SHIFT, PAGE_SIZE
from drgn_vmemmap.target.memory import ProgramMemory
from drgn_vmemmap.target.recorded_pages import parts_in
from tests.extract.machine import SECRET, Machine, has_secret
from tests.support import open_vmcore

NAMES = ("filtered-kdump", "head-reuse", "shared-tail")


def extracted(machine: Machine, path: Path, compress: bool) -> Written:
    return extract(machine.program(), str(path), compress)


@pytest.mark.parametrize("compress", (False, True))
@pytest.mark.parametrize("name", NAMES)
def test_nothing_but_what_was_recorded_is_written(
    name: str, compress: bool, tmp_path: Path
) -> None:
    path = tmp_path / "vmcore"
    written = extracted(Machine(name), path, compress)
    assert written.withheld == []
    assert not has_secret(path)


def test_the_search_finds_a_secret(tmp_path: Path) -> None:
    path = tmp_path / "vmcore"
    path.write_bytes(bytes(100) + SECRET[8:16] + bytes(100))
    assert has_secret(path)


def first_frames(machine: Machine) -> tuple[int, int, int]:
    """Of the first optimized folio: its head's frame, its tails' frame, and its page table's."""
    folio = next(each for each in examine(machine.program()).folios if each.judgement.shared)
    address = machine.snapshot.geometry.address(folio.folio.pfn)
    head = machine.snapshot.walker.entry(address)
    tail = machine.snapshot.walker.entry(address + PAGE_SIZE)
    assert head.frame is not None
    assert tail.frame is not None
    return head.frame, tail.frame, head.raw_address // PAGE_SIZE


@pytest.mark.parametrize("which", range(3), ids=("head", "tails", "table"))
@pytest.mark.parametrize(("name", "compress"), (("shared-tail", False), ("head-reuse", True)))
def test_a_frame_that_holds_a_users_page_is_withheld(
    name: str, which: int, compress: bool, tmp_path: Path
) -> None:
    machine = Machine(name)
    frame = first_frames(machine)[which]
    machine.changed[frame] = SECRET
    path = tmp_path / "vmcore"
    written = extracted(machine, path, compress)
    assert not has_secret(path)
    assert frame in [withheld.frame for withheld in written.withheld]
    assert f"frame {frame:#x}" in str(written.withheld[0])


def test_the_command_names_what_it_withholds(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    machine = Machine("shared-tail")
    frame = first_frames(machine)[1]
    machine.changed[frame] = SECRET
    command_line.run(["extract", str(tmp_path / "vmcore")], machine.program())
    (line,) = (each for each in capsys.readouterr().err.splitlines() if "withheld: " in each)
    assert f"frame {frame:#x}" in line


@pytest.mark.parametrize("name", ("shared-tail", "head-reuse"))
def test_a_short_secret_in_an_empty_page_table_is_withheld(name: str, tmp_path: Path) -> None:
    machine = Machine(name)
    _, _, table = first_frames(machine)
    machine.changed[table] = bytes(512) + SECRET[:32] + bytes(4096 - 544)
    path = tmp_path / "vmcore"
    extracted(machine, path, compress=False)
    assert not has_secret(path)


def test_a_compressed_extract_knows_of_a_page_what_an_elf_one_knows(tmp_path: Path) -> None:
    elf, kdump = tmp_path / "elf", tmp_path / "kdump"
    for path in (elf, kdump):
        extracted(Machine("head-reuse"), path, compress=path is kdump)
    pages = sorted(parts_in(str(kdump)))
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
