# SPDX-License-Identifier: LGPL-2.1-or-later

"""Which file a program reads: on a drgn that does not know it, and once it has another name."""

from __future__ import annotations

import errno
import os
import shutil
import struct
import sys
from pathlib import Path
from types import SimpleNamespace

import drgn
import pytest

from drgn_vmemmap import verify
from drgn_vmemmap.errors import CannotAnalyse
from drgn_vmemmap.extract.recording import extract
from drgn_vmemmap.target import open_files
from drgn_vmemmap.target.open_files import dump_file, dump_path, remember_path
from tests.support import open_vmcore, run, vmcore

SCRIPT = """
import os, sys
import drgn
from drgn_vmemmap.errors import CannotAnalyse
from drgn_vmemmap.target.open_files import dump_path

class Older:
    # A program of a drgn without Program.core_dump_path.
    def __init__(self, path):
        self._prog = drgn.Program()
        self._prog.set_core_dump(path)
        self.flags, self.cache = self._prog.flags, {}

    def __getitem__(self, name):
        return self._prog[name]

progs = [Older(path) for path in sys.argv[1:]]
for prog in progs:
    try:
        print(dump_path(prog))
    except CannotAnalyse as error:
        print(error)
"""


def paths(*dumps: Path) -> list[str]:
    """The paths of some dumps that are open at the same time."""
    return run(sys.executable, "-c", SCRIPT, *dumps).stdout.splitlines()


def test_the_only_dump_that_is_open_is_the_programs() -> None:
    dump = vmcore("head-reuse").resolve()
    assert paths(dump) == [str(dump)]


@pytest.mark.long
def test_of_several_open_dumps_a_programs_has_its_vmcoreinfo(tmp_path: Path) -> None:
    elf = tmp_path / "vmcore"
    extract(open_vmcore("hvo-off"), str(elf), compress=False)
    dumps = [elf, *(vmcore(name).resolve() for name in ("head-reuse", "shared-tail"))]
    assert paths(*dumps) == [*map(str, dumps)]


def test_of_two_dumps_with_the_same_vmcoreinfo_none_is_taken_for_the_programs(
    tmp_path: Path,
) -> None:
    dumps = vmcore("head-reuse"), Path(shutil.copy(vmcore("head-reuse"), tmp_path))
    assert all("update drgn" in line for line in paths(*dumps))


def test_a_program_of_no_dump_has_no_path(monkeypatch: pytest.MonkeyPatch) -> None:
    older = SimpleNamespace(flags=drgn.ProgramFlags(0), cache={})
    monkeypatch.setattr(open_files, "_open_files", lambda: iter(()))
    assert dump_path(older) is None


def test_a_live_kernel_has_no_dump() -> None:
    live = SimpleNamespace(flags=drgn.ProgramFlags.IS_LIVE, core_dump_path="/proc/kcore")
    assert dump_path(live) is None


def test_the_path_of_a_dump_that_was_opened_here_is_remembered(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    older = SimpleNamespace(flags=drgn.ProgramFlags(0), cache={})
    monkeypatch.chdir(tmp_path)
    remember_path(older, "vmcore")
    assert dump_path(older) == str(tmp_path / "vmcore")


def test_an_open_file_that_may_not_be_read_is_not_the_programs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    older = SimpleNamespace(flags=drgn.ProgramFlags(0), cache={})
    dump, log = str(vmcore("head-reuse").resolve()), __file__

    def is_dump(path: str) -> bool:
        if path == log:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        return True

    monkeypatch.setattr(open_files, "is_dump", is_dump)
    monkeypatch.setattr(open_files, "_open_files", lambda: iter(((log, log), (dump, dump))))
    assert dump_path(older) == dump


def test_an_open_kdump_whose_vmcoreinfo_is_beyond_all_files_is_not_the_programs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    dump, damaged = vmcore("head-reuse"), tmp_path / "damaged"
    data = bytearray(dump.read_bytes()[:8192])
    struct.pack_into("<Q", data, 4096 + 32, 1 << 63)  # offset_vmcoreinfo
    damaged.write_bytes(data)
    names = str(damaged), str(dump)
    prog = open_vmcore("head-reuse")

    class Older:
        """A program of a drgn without Program.core_dump_path."""

        flags, cache, __getitem__ = prog.flags, dict[str, object](), prog.__getitem__

    monkeypatch.setattr(open_files, "_open_files", lambda: zip(names, names))
    assert dump_path(Older()) == str(dump)


@pytest.fixture(scope="module")
def elf_vmcore(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recorded vmcore, not compressed."""
    path = tmp_path_factory.mktemp("dumps") / "head-reuse"
    extract(open_vmcore("head-reuse"), str(path), compress=False)
    return path


@pytest.mark.long
@pytest.mark.parametrize("becomes", ("removed", "replaced"))
@pytest.mark.parametrize("is_compressed", (False, True), ids=("elf", "compressed"))
def test_what_a_dump_lacks_is_known_whatever_becomes_of_its_name(
    becomes: str, is_compressed: bool, elf_vmcore: Path, tmp_path: Path
) -> None:
    dump = tmp_path / "vmcore"
    shutil.copy(vmcore("head-reuse") if is_compressed else elf_vmcore, dump)
    prog = open_vmcore(dump)
    if becomes == "removed":
        dump.unlink()
    else:
        os.rename(shutil.copy(vmcore("hvo-off"), tmp_path), dump)
    assert not verify(prog).broken


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A directory; no other files are open."""
    every = open_files._open_files
    monkeypatch.setattr(
        open_files,
        "_open_files",
        lambda: (each for each in every() if each[0].startswith(str(tmp_path))),
    )
    return tmp_path


def test_a_dump_that_was_replaced_is_told_from_the_one_that_has_its_name_now(alone: Path) -> None:
    progs, dump = [], alone / "vmcore"
    for name in ("head-reuse", "shared-tail", "hvo-off"):
        os.replace(shutil.copy(vmcore(name), alone / "copy"), dump)
        progs += [(name, open_vmcore(dump)) for _ in range(2)]
    for name, prog in progs:
        path = dump_file(prog)
        assert path is not None and Path(path).read_bytes() == vmcore(name).read_bytes()
    assert dump_file(prog) == str(dump)


@pytest.mark.long
@pytest.mark.parametrize("then", ("", "shutil.copy(sys.argv[2], sys.argv[1])"))
def test_what_a_dump_lacks_is_known_if_it_is_renamed(then: str, tmp_path: Path) -> None:
    dumps = Path(shutil.copy(vmcore("head-reuse"), tmp_path)), vmcore("shared-tail")
    # A process of its own has no other dumps open.
    code = f"""
import os, shutil, sys
import drgn
from drgn_vmemmap import verify
progs = [drgn.Program() for _ in sys.argv[1:]]
for prog, path in zip(progs, sys.argv[1:]):
    prog.set_core_dump(path)
os.rename(sys.argv[1], sys.argv[1] + ".old")
{then}
print(verify(progs[0]).broken)
"""
    assert run(sys.executable, "-c", code, *dumps).stdout == "False\n"


def test_a_dump_that_cannot_be_read_again_is_not_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    prog = open_vmcore("head-reuse")
    monkeypatch.setattr("drgn_vmemmap.target.recorded_pages.dump_file", lambda prog: "/no/vmcore")
    with pytest.raises(CannotAnalyse, match="/no/vmcore cannot be read again"):
        verify(prog)
