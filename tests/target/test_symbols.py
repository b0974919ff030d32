# SPDX-License-Identifier: LGPL-2.1-or-later

"""Symbols: what keeps drgn from reading a dump's kallsyms is named, and nothing else is."""

from __future__ import annotations

import io
from pathlib import Path

import drgn
import pytest
from drgn.helpers.linux.kallsyms import load_vmlinux_kallsyms

from drgn_vmemmap import verify
from drgn_vmemmap.errors import CannotAnalyse
from drgn_vmemmap.target import symbols
from drgn_vmemmap.target.kallsyms_names import KallsymsError
from tests.support import open_vmcore
from tests.synthetic.image import Image
from tests.synthetic.model import Machine

REST = (1, drgn.SymbolBinding.GLOBAL, drgn.SymbolKind.UNKNOWN)
"""Size, binding and kind of a symbol."""


def refuse_tables(prog: drgn.Program) -> None:
    raise KallsymsError("the tables are damaged")


def test_a_kernel_from_7_0_on_needs_drgn_0_1_0_where_its_tables_cannot_be_searched(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(symbols, "open_kallsyms", refuse_tables)
    monkeypatch.setattr(symbols, "_is_0_1_0", lambda prog: False)
    with pytest.raises(CannotAnalyse) as refused:
        verify(open_vmcore("shared-tail"))
    assert "Linux 7.0 and later need drgn 0.1.0" in str(refused.value)
    assert "damaged" not in str(refused.value)


def test_a_kernel_before_7_0_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(symbols, "open_kallsyms", refuse_tables)
    monkeypatch.setattr(symbols, "_is_0_1_0", lambda prog: False)
    assert not verify(open_vmcore("filtered-kdump")).broken


@pytest.mark.long
@pytest.mark.parametrize("compiler", (None, "clang version 18", "gcc 14"))
def test_symbols_that_thin_lto_renamed_are_found_in_an_index_of_all(
    compiler: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """drgn's helper makes the index: of the kernel that runs, or where tables are not searched."""
    prog = open_vmcore("hvo-off")
    recorded = load_vmlinux_kallsyms(prog)(prog, None, None, False)
    renamed = drgn.SymbolIndex(
        drgn.Symbol(f"{s.name}.llvm.7" if "vmemmap" in s.name else s.name, s.address, *REST)
        for s in recorded
    )
    monkeypatch.setattr("drgn.helpers.linux.kallsyms.load_vmlinux_kallsyms", lambda prog: renamed)
    monkeypatch.setattr(symbols, "open_kallsyms", refuse_tables)
    if compiler is not None:
        version = f"Linux version 7.3.4 ({compiler})"
        monkeypatch.setattr(symbols, "is_this_kernel", lambda prog: True)
        monkeypatch.setattr(symbols, "open", lambda path, **_: io.StringIO(version), raising=False)
    finder = symbols.symbol_finder(prog, 0, None)
    found = finder(prog, "vmemmap_optimize_enabled", None, True)
    addresses = {s.address for s in recorded if s.name == "vmemmap_optimize_enabled"}
    assert {symbol.address for symbol in found} == (set() if compiler == "gcc 14" else addresses)
    assert len(finder(prog, "hstates", None, True)) == 1
    assert not finder(prog, "vmemmap_optimize", None, True)


def test_symbols_without_variables_are_named_and_others_may_be_passed_then(tmp_path: Path) -> None:
    """Without CONFIG_KALLSYMS_ALL, kallsyms are of functions."""
    functions = tmp_path / "functions"
    functions.write_text("ffffffff81000000 T _stext\n")
    prog = open_vmcore("hvo-off")
    for _ in range(2):
        with pytest.raises(CannotAnalyse) as refused:
            verify(prog, system_map=str(functions))
        assert "CONFIG_KALLSYMS_ALL: pass the kernel's vmlinux with -s" in str(refused.value)
    assert not verify(prog).broken


def test_a_running_kernel_has_types_and_may_have_no_variables() -> None:
    image = Image(Machine())
    for name in ("hstates", "mem_section"):
        del image.variables[name]
    with pytest.raises(CannotAnalyse, match="CONFIG_KALLSYMS_ALL"):
        verify(image.prog)
