# SPDX-License-Identifier: LGPL-2.1-or-later

"""A report that was narrowed to what does not exist is an error that names what does."""

from __future__ import annotations

import json
from dataclasses import replace

import drgn
import pytest

from drgn_vmemmap.cli import command_line
from drgn_vmemmap.cli.exit_codes import CANNOT, DONE
from tests.support import open_vmcore
from tests.synthetic.image import Image
from tests.synthetic.model import FIRST_FOLIO, Folio, Machine

FOLIOS = (Folio(FIRST_FOLIO), Folio(FIRST_FOLIO + 512))


@pytest.mark.parametrize(
    ("arguments", "there_is"),
    (
        (("--hstate", "2M"), "there are hugepages-2048kB, hugepages-1048576kB"),
        (("--node", "7"), "some on 0"),
        (("--pfn", "1"), f"2, from PFN {FIRST_FOLIO:#x} to {FIRST_FOLIO + 1023:#x}: 2 optimized"),
        (("--pfn", "99999999"), "there are 2, from"),
        (("--hstate", "hugepages-1048576kB", "--pfn", str(FIRST_FOLIO)), "there are 2, from"),
        (("--verdict", "inconsistent"), "2 optimized"),
        (("--verdict", "unoptimized", "--pfn", str(FIRST_FOLIO)), "2 optimized"),
    ),
)
@pytest.mark.parametrize("format_name", ("table", "json", "csv"))
def test_what_matches_nothing_is_an_error(
    arguments: tuple[str, ...],
    there_is: str,
    format_name: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    prog = Image(Machine(folios=FOLIOS)).prog
    assert command_line.run([*arguments, "--format", format_name], prog) == CANNOT
    out, err = capsys.readouterr()
    assert out == "" and len(err.splitlines()) == 1
    assert there_is in err


def test_many_nodes_are_named_as_ranges(capsys: pytest.CaptureFixture[str]) -> None:
    machine = Machine(nodes=4)
    folios = tuple(Folio(machine.folio_pfn(0, node)) for node in (0, 1, 3))
    prog = Image(replace(machine, folios=folios)).prog
    assert command_line.run(["--node", "2"], prog) == CANNOT
    assert capsys.readouterr().err.endswith("there are some on 0-1,3\n")


def test_without_any_folio_no_node_has_one(capsys: pytest.CaptureFixture[str]) -> None:
    prog = Image(Machine(folios=())).prog
    assert command_line.run(["--node", "0"], prog) == CANNOT
    assert "no folio is on node 0: there are no HugeTLB folios" in capsys.readouterr().err


def test_without_any_folio_no_pfn_is_in_one(capsys: pytest.CaptureFixture[str]) -> None:
    prog = Image(Machine(folios=())).prog
    assert command_line.run(["--pfn", "0x2000"], prog) == CANNOT
    assert "there are no HugeTLB folios" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    (
        ("--hstate", "hugepages-1048576kB"),
        ("--node", "0"),
        ("--pfn", str(FIRST_FOLIO + 511)),
        ("--hstate", "hugepages-2048kB", "--node", "0", "--pfn", str(FIRST_FOLIO)),
    ),
)
def test_what_exists_is_reported_even_if_it_is_empty(arguments: tuple[str, ...]) -> None:
    assert command_line.run(arguments, Image(Machine(folios=FOLIOS)).prog) == DONE


@pytest.mark.parametrize("verdict", ("optimized", "unoptimized"))
def test_folios_of_one_verdict_are_reported_alone(
    verdict: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folios = (*FOLIOS, Folio(FIRST_FOLIO + 1024, remapped=False))
    prog = Image(Machine(folios=folios)).prog
    everything = json.loads(report(prog, capsys))
    narrowed = json.loads(report(prog, capsys, "--verdict", verdict))
    assert narrowed["selection"]["verdict"] == verdict
    assert narrowed["folios"] == [f for f in everything["folios"] if f["verdict"] == verdict]
    assert narrowed["totals"]["folios"] == everything["totals"][verdict] > 0
    pfns = {folio["pfn"] for folio in narrowed["folios"]}
    assert all(finding["folio"] in pfns | {None} for finding in narrowed["findings"])


def report(prog: drgn.Program, capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert command_line.run(["--folios", "--format", "json", *arguments], prog) == DONE
    return capsys.readouterr().out


def shown(capsys: pytest.CaptureFixture[str], prog: drgn.Program, *arguments: str) -> str:
    assert command_line.run(arguments, prog) == DONE
    return capsys.readouterr().out


def test_a_narrowed_report_says_so_and_shows_nothing_of_other_folios(
    capsys: pytest.CaptureFixture[str],
) -> None:
    prog = open_vmcore("two-nodes-1GiB")
    everything = shown(capsys, prog)
    assert "only folios" not in everything and "net saving" in everything
    on_node = shown(capsys, prog, "--node", "0", "--hstate", "hugepages-2048kB")
    assert "only folios of hugepages-2048kB, on node 0\n" in on_node
    assert [line.split()[:3] for line in on_node.splitlines() if "hugepages" in line][-1] == [
        "hugepages-2048kB",
        "0",
        "23",
    ]
    verdict = shown(capsys, prog, "--verdict", "unoptimized")
    assert "only folios that are unoptimized\n" in verdict
    for text in (on_node, verdict):
        assert "net saving" not in text and "no folios" not in text
    metrics = shown(capsys, prog, "--node", "0", "--format", "prometheus")
    assert 'node="0"' in metrics and 'node="1"' not in metrics
    rows = json.loads(shown(capsys, prog, "--pfn", "0x40000", "--format", "json"))["hstates"]
    nodes = {hstate["name"]: [row["node"] for row in hstate["nodes"]] for hstate in rows}
    assert nodes == {"hugepages-1048576kB": [0], "hugepages-2048kB": []}
