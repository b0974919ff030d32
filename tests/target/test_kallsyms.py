# SPDX-License-Identifier: LGPL-2.1-or-later

"""Kallsyms: names are found in each kernel's tables, and damaged tables are refused."""

from __future__ import annotations

import random
import re
import struct
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import drgn
import pytest
from drgn.helpers.linux.kallsyms import load_vmlinux_kallsyms
from hypothesis import given
from hypothesis import strategies as st

from drgn_vmemmap.target import kallsyms_names
from drgn_vmemmap.target.kallsyms import Kallsyms, KernelSymbol
from drgn_vmemmap.target.kallsyms_names import KallsymsError, source_name
from drgn_vmemmap.target.symbols import NoTypes, open_kallsyms, symbol_finder
from tests.support import VMCORES, open_vmcore
from tests.target.tables import ORDERS, START, STEXT, TEXT, Order, Tables, tables_of

COUNT = 1000


def symbols_of(count: int) -> list[KernelSymbol]:
    """Symbols with names of each kind: alike, with suffixes, long."""
    names = ["hstates", "vmemmap_optimize_enabled", "init", "init", "init.cold", "x" * 300]
    names += [f"vmemmap_{number * 7919 % count}" for number in range(count - len(names) - 1)]
    others = [KernelSymbol(n, "tTdDbB"[i % 6], TEXT + 64 * i + 8) for i, n in enumerate(names)]
    return [STEXT, *others]


@pytest.fixture(params=[*ORDERS.values()], ids=[*ORDERS])
def order(request: pytest.FixtureRequest) -> Order:
    assert isinstance(request.param, Order)
    return request.param


@pytest.fixture
def tables(order: Order) -> Tables:
    return tables_of(symbols_of(COUNT), order)


def test_each_symbol_is_found_by_its_name(tables: Tables) -> None:
    symbols = symbols_of(COUNT)
    kallsyms = Kallsyms(tables.read, tables.symbols())
    by_name = defaultdict(list)
    for symbol in symbols:
        by_name[symbol.name].append(symbol)
    for name, of_name in by_name.items():
        assert kallsyms.find(name) == of_name


def test_a_name_that_no_symbol_has_is_not_found(tables: Tables) -> None:
    kallsyms = Kallsyms(tables.read, tables.symbols())
    for name in ("", "hstate", "hstatess", "A", "zzz", "init.col", "vmemmap_", "\u20ac"):
        assert kallsyms.find(name) == []


SORTED_BY = {
    "names": str,
    "names up to a dot": lambda name: str(name).partition(".")[0],
    "names in the source": source_name,
}
"""How kernels built with CONFIG_LTO_CLANG sort their names, newest first."""


@pytest.mark.parametrize("sorted_by", SORTED_BY.values(), ids=SORTED_BY)
@pytest.mark.parametrize("line", ("v6.2", "v6.4", "v6.15", "v7.0"))
def test_a_name_to_which_thin_lto_added_a_number_is_found(
    line: str, sorted_by: Callable[[str], str]
) -> None:
    renamed = ("vmemmap_optimize_enabled", "init", "init.cold")
    symbols = [
        symbol._replace(name=f"{symbol.name}.llvm.{number}") if symbol.name in renamed else symbol
        for number, symbol in enumerate(symbols_of(COUNT), 7000)
    ]
    # One more that has the name of another, which no compiler renamed.
    symbols.append(KernelSymbol("hstates.llvm.1", "b", TEXT + (1 << 20)))
    tables = tables_of(symbols, ORDERS[line], sorted_by)
    kallsyms = Kallsyms(tables.read, tables.symbols())
    for name in ("vmemmap_optimize_enabled", "init", "hstates"):
        addresses = [s.address for s in symbols_of(COUNT) if s.name == name]
        assert [symbol.address for symbol in kallsyms.find(name)] == addresses
    assert kallsyms.find("vmemmap_optimize") == []


@pytest.mark.parametrize(
    ("name", "expected"),
    (
        ("prb.llvm.15", "prb"),
        ("prb.llvm.", "prb.llvm."),
        ("prb.llvm.x", "prb.llvm.x"),
        (".llvm.15", ".llvm.15"),
        ("init.cold", "init.cold"),
    ),
)
def test_the_name_in_the_source_is_without_what_thin_lto_adds(name: str, expected: str) -> None:
    assert source_name(name) == expected


def test_the_spans_are_all_tables(tables: Tables, order: Order) -> None:
    spans = Kallsyms(tables.read, tables.symbols()).spans()
    only_them = Tables(bytearray(len(tables.data)), tables.places)
    for address, size in spans:
        only_them.data[address - START : address - START + size] = tables.read(address, size)
    assert only_them.data == tables.data
    assert Kallsyms(only_them.read, tables.symbols()).find("hstates")


def test_a_few_symbols_are_enough(order: Order) -> None:
    for count in (8, 255, 256, 257, 512):
        tables = tables_of(symbols_of(count), order)
        assert Kallsyms(tables.read, tables.symbols()).find("hstates")


def test_an_stext_elsewhere_than_vmcoreinfo_has_it_is_refused(tables: Tables) -> None:
    with pytest.raises(KallsymsError, match="_stext"):
        Kallsyms(tables.read, {**tables.symbols(), "_stext": TEXT + 4096})


def test_tables_that_vmcoreinfo_does_not_have_are_refused(tables: Tables) -> None:
    with pytest.raises(KallsymsError, match="VMCOREINFO does not have"):
        Kallsyms(tables.read, {"_stext": TEXT})


def test_names_without_end_are_not_read_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    tables = tables_of(symbols_of(300), ORDERS["v6.1"])
    tables.data[tables.places["num_syms"] - START :][:4] = struct.pack("<I", 1 << 20)
    far = 1 << 32
    after_names = tables.places["markers"]
    size_of_reads = 0

    def read(address: int, size: int) -> bytes:
        """The names are followed by 4 GiB that are all alike."""
        nonlocal size_of_reads
        size_of_reads += size
        if after_names <= address < after_names + far:
            return bytes(size)
        return tables.read(address - far if address >= after_names else address, size)

    places = {
        name: address + far if address >= after_names and name.startswith("kallsyms") else address
        for name, address in tables.symbols().items()
    }
    monkeypatch.setattr(kallsyms_names, "_NAMES_LIMIT", 1 << 20)
    with pytest.raises(KallsymsError):
        Kallsyms(read, places)
    assert size_of_reads < 1 << 22


@pytest.mark.parametrize("table", ("num_syms", "token_table", "token_index", "offsets", "names"))
def test_a_table_that_is_not_in_the_dump_is_refused(tables: Tables, table: str) -> None:
    def read(address: int, size: int) -> bytes:
        if address <= tables.places[table] < address + size:
            raise ValueError("not in the dump")
        return tables.read(address, size)

    with pytest.raises(KallsymsError):
        Kallsyms(read, tables.symbols()).find("hstates")


@given(st.data())
def test_damaged_tables_are_refused_or_give_an_answer(data: st.DataObject) -> None:
    order = data.draw(st.sampled_from(list(ORDERS.values())))
    tables = tables_of(symbols_of(300), order)
    seed = data.draw(st.integers(0, 1 << 32))
    chosen = random.Random(seed)
    for _ in range(data.draw(st.integers(1, 200))):
        tables.data[chosen.randrange(len(tables.data))] = chosen.randrange(256)
    try:
        kallsyms = Kallsyms(tables.read, tables.symbols())
        for name in ("hstates", "init", "nothing"):
            assert len(kallsyms.find(name)) <= 300
    except KallsymsError:
        pass


@given(st.binary(max_size=20000), st.integers(0, 1 << 24))
def test_bytes_at_random_are_refused(data: bytes, count: int) -> None:
    places = tables_of(symbols_of(300), ORDERS["v6.4"]).places
    tables = Tables(bytearray(data.ljust(40960, b"\xff")), places)
    tables.data[places["num_syms"] - START :][:4] = count.to_bytes(4, "little")
    with pytest.raises(KallsymsError):
        Kallsyms(tables.read, tables.symbols())


@pytest.mark.long
@pytest.mark.parametrize("vmcore", VMCORES, ids=lambda path: path.stem)
def test_a_kernels_symbols_are_those_that_drgns_helper_finds(vmcore: Path) -> None:
    prog = open_vmcore(vmcore)
    index, kallsyms = load_vmlinux_kallsyms(prog), open_kallsyms(prog)
    vmcoreinfo = prog["VMCOREINFO"].string_().decode()
    names = [symbol.name for symbol in index(prog, None, None, False)]
    for name in random.Random(1).sample(names, 200):
        expected = sorted(symbol.address for symbol in index(prog, name, None, False))
        assert [symbol.address for symbol in kallsyms.find(name)] == expected
    for name in ("_stext", "init_uts_ns", "init_top_pgt"):
        address = re.search(rf"^SYMBOL\({name}\)=(\w+)$", vmcoreinfo, re.M)
        assert address
        assert [symbol.address for symbol in kallsyms.find(name)] == [int(address[1], 16)]


@pytest.mark.parametrize("moved", (-0x34000, 0x34000))
def test_damaged_tokens_are_not_given_to_drgns_helper(
    moved: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of what it takes for tokens, it makes 140,000 names, which can be of any length."""
    recorded = open_vmcore("head-reuse")

    def moved_table(match: re.Match[bytes]) -> bytes:
        return b"SYMBOL(kallsyms_token_table)=%x" % (int(match[1], 16) + moved)

    line = rb"SYMBOL\(kallsyms_token_table\)=(\w+)"
    vmcoreinfo = re.sub(line, moved_table, recorded["VMCOREINFO"].string_())
    prog = drgn.Program(recorded.platform)
    prog.set_linux_kernel_custom(vmcoreinfo, False)

    def read(address: int, count: int, offset: int, physical: bool) -> bytes:
        data: bytes = recorded.read(address, count, physical)
        return data

    prog.add_memory_segment(0, 1 << 52, read, True)
    monkeypatch.delattr("drgn.helpers.linux.kallsyms.load_vmlinux_kallsyms")
    with pytest.raises(NoTypes, match="its kallsyms cannot be read"):
        symbol_finder(prog, 0, None)


def test_kallsyms_that_are_not_in_the_dump_are_named_by_their_address_once() -> None:
    recorded = open_vmcore("head-reuse")
    prog = drgn.Program(recorded.platform)
    prog.set_linux_kernel_custom(recorded["VMCOREINFO"].string_(), False)
    with pytest.raises(NoTypes, match=r"cannot be read \(not in the dump: 0x[0-9a-f]{16}\)"):
        symbol_finder(prog, 0, None)
