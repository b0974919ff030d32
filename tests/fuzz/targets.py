# SPDX-License-Identifier: LGPL-2.1-or-later

"""What is fuzzed: each target is a function of some bytes, with inputs to begin with."""

from __future__ import annotations

import atexit
import contextlib
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import drgn

from drgn_vmemmap.explain.text.not_text import NotText
from drgn_vmemmap.explain.text.read import read_text
from drgn_vmemmap.explain.text_only.report import text_only
from drgn_vmemmap.extract.recording import extract
from drgn_vmemmap.target.btf import Btf
from drgn_vmemmap.target.btf_kinds import BtfError, Kind
from drgn_vmemmap.target.btf_types import BtfTypes
from drgn_vmemmap.target.dump_file import is_dump, missing_bytes, why_not_a_dump
from drgn_vmemmap.target.kallsyms import Kallsyms, KernelSymbol
from drgn_vmemmap.target.kallsyms_names import KallsymsError
from drgn_vmemmap.target.program import what_is_cut_off
from drgn_vmemmap.target.recorded_pages import marks_in
from tests.explain.forms import FORMS
from tests.explain.logs import FAULT, LOG
from tests.explain.wordings import WORDINGS
from tests.fuzz.answers import check_growth, limited, run, run_in_child
from tests.fuzz.documents import edited
from tests.fuzz.headers import DamagedFile
from tests.fuzz.kernel import RecordedKernel, edit
from tests.support import open_vmcore, recorded, vmcore
from tests.target.tables import ORDERS, STEXT, TEXT, Tables, tables_of
from tests.target.test_btf import INT, blob, type_of

NAME = "head-reuse"
"""The vmcore that is damaged."""


class Target(NamedTuple):
    """Something that reads input which may be damaged or hostile."""

    run: Callable[[bytes], object]
    """
    Reads an input.

    It returns, or raises :class:`~tests.fuzz.answers.Failure` or an exception that is not
    documented.
    """
    seeds: Callable[[], Iterator[bytes]]
    """Inputs to begin with."""
    length: int = 4096
    """The most bytes of an input."""


@cache
def scratch() -> Path:
    """A directory for files, removed when the process ends."""
    directory = tempfile.mkdtemp(prefix="fuzz-")
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    return Path(directory)


# BTF.


def _btf(data: bytes) -> None:
    prog = drgn.Program(drgn.Platform(drgn.Architecture.X86_64))
    try:
        with limited():
            btf = Btf(len(data), lambda offset, size: data[offset : offset + size])
            types = BtfTypes(prog, btf)
            for name in ("page", "a"):
                types.enumerator(name)
                types.variable_type(name)
                types.find_type(prog, drgn.TypeKindSet(drgn.TypeKind), name, None)
    except BtfError:
        return
    for type_id in range(200):
        try:
            with limited():
                _members(types.type(type_id))
        except BtfError:
            pass


def _members(type_: drgn.Type) -> None:
    for kind, names in (("STRUCT", "members"), ("UNION", "members"), ("FUNCTION", "parameters")):
        if type_.kind.name == kind:
            for each in getattr(type_, names) or ():
                assert each.type is not None


def _btf_seeds() -> Iterator[bytes]:
    strings = b"\0page\0a\0b\0"
    one_of_each = (
        INT
        + type_of(Kind.PTR, 1, name=0)
        + type_of(Kind.ARRAY, 0, 1, 1, 4, name=0)
        + type_of(Kind.STRUCT, 24, 6, 1, 0, 8, 2, 64, 0, 3, 128, count=3)
        + type_of(Kind.UNION, 8, 6, 1, 0, count=1)
        + type_of(Kind.ENUM, 4, 6, 1, count=1)
        + type_of(Kind.FWD, name=6)
        + type_of(Kind.TYPEDEF, 4, name=6)
        + type_of(Kind.VOLATILE, 8, name=0)
        + type_of(Kind.CONST, 9, name=0)
        + type_of(Kind.RESTRICT, 2, name=0)
        + type_of(Kind.FUNC_PROTO, 1, 6, 2, 0, 0, name=0, count=2)
        + type_of(Kind.FUNC, 12, name=6)
        + type_of(Kind.VAR, 1, 1, name=6)
        + type_of(Kind.DATASEC, 4, 14, 0, 4, name=6, count=1)
        + type_of(Kind.FLOAT, 8, name=6)
        + type_of(Kind.TYPE_TAG, 1, name=6)
        + type_of(Kind.ENUM64, 8, 8, 1, 0, name=6, count=1)
    )
    yield blob(one_of_each, strings)
    yield blob(INT, strings)
    yield blob(b"".join(type_of(Kind.INT, 4, 32, name=n) for n in (0,) * 70 + (1, 6, 8)), strings)


# Kallsyms.

_SYMBOLS = [
    STEXT,
    *(KernelSymbol(f"name_{n}", "tTdD"[n % 4], TEXT + 64 * n) for n in range(1, 40)),
    KernelSymbol("hstates", "D", TEXT + 4096),
]


def _kallsyms(data: bytes) -> None:
    order = list(ORDERS.values())[data[0] % len(ORDERS) if data else 0]
    tables = Tables(bytearray(data[1:]), tables_of(_SYMBOLS, order).places)
    try:
        with limited():
            kallsyms = Kallsyms(tables.read, tables.symbols())
            for name in ("hstates", "_stext", "nothing", "", "name_7"):
                kallsyms.find(name)
            kallsyms.spans()
    except KallsymsError:
        pass


def _kallsyms_seeds() -> Iterator[bytes]:
    for number, order in enumerate(ORDERS.values()):
        yield bytes([number]) + bytes(tables_of(_SYMBOLS, order).data)


# Memory of a kernel.

_PLACE = f"{FAULT:x}"

_COMMANDS: tuple[tuple[str, ...], ...] = (
    ("verify", "--all"),
    ("verify", "--format", "json"),
    ("report", "--folios"),
    ("report", "--folios", "--format", "html"),
    ("map",),
    ("explain", _PLACE, "pfn:0x2e07"),
    ("explain", "--dmesg", "--format", "json"),
    ("extract",),
)


@cache
def _kernel() -> RecordedKernel:
    return RecordedKernel(NAME, map(_complete, _COMMANDS))


def _complete(command: tuple[str, ...]) -> tuple[str, ...]:
    return (*command, str(scratch() / "extract")) if command == ("extract",) else command


def _vmcore(data: bytes) -> None:
    kernel = _kernel()
    kernel.damage(data[1:])
    run(*_command(data), prog=kernel.program())


def _command(data: bytes) -> tuple[str, ...]:
    """The command that the first byte chooses."""
    return _complete(_COMMANDS[data[0] % len(_COMMANDS) if data else 0])


def _types(data: bytes) -> None:
    kernel = _kernel()
    kernel.damage(data[1:], kernel.types)
    run(*_command(data), prog=kernel.program())


def _types_seeds() -> Iterator[bytes]:
    for number in range(len(_COMMANDS)):
        edits = (edit(n, number, kind, 1 << number) for kind, n in enumerate((number, 40)))
        yield bytes([number]) + b"".join(edits)


def _vmcore_seeds() -> Iterator[bytes]:
    for number in range(len(_COMMANDS)):
        yield bytes([number])
        yield bytes([number]) + b"".join(edit(n * 97, n, n, 1 << n) for n in range(8))


def _vmcoreinfo(data: bytes) -> None:
    try:
        prog = _kernel().program(data)
    except Exception:
        return  # drgn refuses it
    run("report", prog=prog)


def _vmcoreinfo_seeds() -> Iterator[bytes]:
    own = _kernel().vmcoreinfo
    yield own
    yield b"\n".join(line for line in own.splitlines() if not line.startswith(b"OFFSET"))


_MAPPED = (
    *("__start_BTF", "__stop_BTF", "hstates", "hugetlb_max_hstate", "max_pfn", "mem_section"),
    *("node_data", "vmemmap_base", "vmemmap_optimize_enabled", "hugetlb_optimize_vmemmap_key"),
)


def _system_map(data: bytes) -> None:
    path = scratch() / "System.map"
    path.write_bytes(data)
    run("report", "--system-map", str(path), prog=_kernel().program())


def _system_map_seeds() -> Iterator[bytes]:
    yield _kernel().system_map(_MAPPED)


# Files.


@cache
def _kdump_file() -> DamagedFile:
    # Numbers of both headers, the beginnings of both bitmaps, and the first page descriptors.
    sound = vmcore(NAME)
    parts = (
        *(range(424, 464), range(4096, 4208)),
        *(range(8192, 8224), range(73728, 73760), range(139264, 139360)),
    )
    return DamagedFile(scratch() / "kdump", sound, parts)


@cache
def _elf_file() -> DamagedFile:
    sound = scratch() / "sound"
    extract(open_vmcore(NAME), str(sound), compress=False)
    return DamagedFile(scratch() / "elf", sound, (range(64 + 56 * 8),))


def _file(of: Callable[[], DamagedFile]) -> Callable[[bytes], None]:
    def read(data: bytes) -> None:
        file = of()
        file.write(data)
        path = str(file.path)
        with limited():
            if why_not_a_dump(path) is None and is_dump(path):
                missing_bytes(path)
                what_is_cut_off(path)
                marks_in(path)
        run_in_child("-c", path, "verify")

    return read


def _file_seeds(of: Callable[[], DamagedFile]) -> Callable[[], Iterator[bytes]]:
    def seeds() -> Iterator[bytes]:
        yield of().seed
        yield (1000).to_bytes(4, "little") + of().seed[4:]

    return seeds


# Logs.


def _log(data: bytes) -> None:
    run("explain", "--stdin", stdin=data)
    run("explain", "--stdin", "--format", "json", stdin=data)


def _log_of_kernel(data: bytes) -> None:
    kernel = _kernel()
    kernel.damage(b"")
    run("explain", "--stdin", prog=kernel.program(), stdin=data)


def _log_growth(data: bytes) -> None:
    repeated = data * ((1 << 13) // max(1, len(data)))

    def read(times: int) -> None:
        with contextlib.suppress(NotText):
            text_only(read_text(repeated * times).lines)

    check_growth(read)


def _log_seeds() -> Iterator[bytes]:
    for form in FORMS.values():
        yield form(LOG)[:4096]
        yield form(LOG[:4])
    for wording in WORDINGS:
        yield wording.line.encode()


def _lines() -> Iterator[bytes]:
    for form in FORMS.values():
        yield form(LOG[:2])[:256]
    for line in (*LOG, *(wording.line for wording in WORDINGS)):
        yield f"{line}\n".encode()[:256]


# JSON reports.


@cache
def _report() -> Path:
    path = scratch() / "other.json"
    path.write_text(json.dumps(_small_report()))
    return path


@cache
def _small_report() -> dict[str, object]:
    report = recorded(NAME)
    report["folios"] = report["folios"][:3]
    report["findings"] = report["findings"][:3]
    return report


def _diff_text(data: bytes) -> None:
    """A report, the first byte left out: what does not begin as one is opened as a dump."""
    _compare(b"{" + data)


def _diff(data: bytes) -> None:
    """A report of which some values are others."""
    _compare(json.dumps(edited(_small_report(), data)).encode())


def _compare(report: bytes) -> None:
    path = scratch() / "report.json"
    path.write_bytes(report)
    run("diff", str(path), str(_report()))
    run("diff", str(_report()), str(path), "--format", "json")


def _diff_text_seeds() -> Iterator[bytes]:
    yield json.dumps(_small_report())[1:].encode()
    yield json.dumps({**_small_report(), "selection": {"pfn": 1 << 13, "node": 0}})[1:].encode()


def _diff_seeds() -> Iterator[bytes]:
    yield b""
    yield bytes(range(64))


TARGETS: dict[str, Target] = {
    "btf": Target(_btf, _btf_seeds),
    "kallsyms": Target(_kallsyms, _kallsyms_seeds, 1 << 13),
    "types": Target(_types, _types_seeds, 16 * 4),
    "vmcoreinfo": Target(_vmcoreinfo, _vmcoreinfo_seeds),
    "system-map": Target(_system_map, _system_map_seeds),
    "kdump": Target(_file(_kdump_file), _file_seeds(_kdump_file)),
    "elf": Target(_file(_elf_file), _file_seeds(_elf_file)),
    "log": Target(_log, _log_seeds),
    "log-of-kernel": Target(_log_of_kernel, _log_seeds),
    "log-growth": Target(_log_growth, _lines, 256),
    "diff-text": Target(_diff_text, _diff_text_seeds),
    "diff": Target(_diff, _diff_seeds, 64),
    "vmcore": Target(_vmcore, _vmcore_seeds, 1 + 16 * 64),
}
