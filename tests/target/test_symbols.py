# SPDX-License-Identifier: LGPL-2.1-or-later

"""Symbols: what keeps drgn from reading a dump's kallsyms is named, and nothing else is."""

from __future__ import annotations

import drgn
import pytest

from drgn_vmemmap import verify
from drgn_vmemmap.errors import CannotAnalyse
from drgn_vmemmap.target import symbols
from drgn_vmemmap.target.kallsyms_names import KallsymsError
from tests.support import open_vmcore


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
