# SPDX-License-Identifier: LGPL-2.1-or-later

"""The exit code says whether something is broken, or was missed."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from drgn_vmemmap.cli import command_line
from drgn_vmemmap.cli.exit_codes import CANNOT, DONE, FOUND_ERRORS, INCOMPLETE
from tests.synthetic.image import Image
from tests.synthetic.model import FIRST_FOLIO, REUSE_W, Folio, Machine

SOUND: dict[str, Any] = {}
BROKEN: dict[str, Any] = {"edits": {5: REUSE_W}}
CUT: dict[str, Any] = {"head_in_dump": False}


def kernel(*folios: dict[str, Any]) -> Image:
    """A kernel whose folios are as these say."""
    places = range(FIRST_FOLIO, FIRST_FOLIO + 512 * len(folios), 512)
    return Image(Machine(folios=tuple(Folio(pfn, **how) for pfn, how in zip(places, folios))))


@pytest.mark.parametrize("command", ("verify", "map"))
@pytest.mark.parametrize(
    ("folios", "code"),
    (
        ((SOUND,), DONE),
        ((BROKEN,), FOUND_ERRORS),
        ((CUT,), INCOMPLETE),
        ((BROKEN, CUT), FOUND_ERRORS),
    ),
)
def test_errors_outweigh_what_is_missing(
    command: str, folios: tuple[dict[str, Any], ...], code: int
) -> None:
    assert command_line.run([command], kernel(*folios).prog) == code


@pytest.mark.parametrize(("folios", "code"), (((BROKEN,), DONE), ((BROKEN, CUT), INCOMPLETE)))
def test_a_report_judges_nothing(folios: tuple[dict[str, Any], ...], code: int) -> None:
    assert command_line.run(["report"], kernel(*folios).prog) == code


@pytest.mark.parametrize("command", ("report", "verify", "map"))
def test_what_is_not_recognised_is_incomplete(command: str) -> None:
    image = kernel(SOUND)
    image.variables["new_key"] = image.variables.pop("hugetlb_optimize_vmemmap_key")
    assert command_line.run([command], image.prog) == INCOMPLETE


def test_a_package_that_is_not_installed_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "tabulate", None)
    monkeypatch.delitem(sys.modules, "drgn_vmemmap.output.text", raising=False)
    monkeypatch.delitem(sys.modules, "drgn_vmemmap.output.report.table", raising=False)
    assert command_line.run([], kernel({}).prog) == CANNOT
    assert capsys.readouterr() == ("", "drgn-vmemmap: needs tabulate: pip install tabulate\n")
