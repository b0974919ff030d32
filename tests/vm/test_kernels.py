# SPDX-License-Identifier: LGPL-2.1-or-later

"""Real kernels, booted and dumped: the report says what the guest, QEMU and crash say."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Callable

import oracles
import pytest
from conftest import Boot

from vmcores.recipe import Dump

BIN = Path(sys.executable).parent
PAGES = 2048 << 8
"""Of a guest of 2 GiB; 64 bytes of memmap each."""

Record = Callable[[str, object], None]


def report(made: Dump, *arguments: str) -> dict[str, Any]:
    """What the installed command says of a dump."""
    done = subprocess.run(
        [BIN / "drgn-vmemmap", "-c", made.vmcore, *arguments, "report", "--folios"]
        + ["--format", "json"],
        capture_output=True,
        text=True,
        check=True,
    )
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def agree_on_counts(report: dict[str, Any], made: Dump) -> None:
    """The report's counters are the guest's, and its folios add up to them."""
    pools = {
        (f"hugepages-{pool['size_kb']}kB", pool["node"]): pool for pool in made.facts["hugepages"]
    }
    for hstate in report["hstates"]:
        nodes = {node["node"]: node for node in hstate["nodes"]}
        for (name, number), pool in pools.items():
            if name == hstate["name"] and (pool["nr"] or number in nodes):
                node = nodes[number]
                assert node["nr_huge_pages"] == node["folios"] == pool["nr"]
                assert node["free_huge_pages"] == pool["free"]
                assert node["surplus_huge_pages"] == pool["surplus"]
    free = [folio for folio in report["folios"] if folio["state"] == "free"]
    assert len(free) == sum(pool["free"] for pool in pools.values())
    assert not [finding for finding in report["findings"] if finding["severity"] != "info"]


def agree_on_entries(report: dict[str, Any], mapped: dict[int, oracles.Mapped]) -> None:
    """Every folio's reuse frame, shared and read-only pages are what another reading gives."""
    assert report["folios"]
    for folio in report["folios"]:
        reading = oracles.reading_of(folio, mapped)
        assert {key: folio[key] for key in reading} == reading


@pytest.mark.parametrize("levels", (4, 5))
@pytest.mark.parametrize(
    ("line", "layout"),
    (("6.1", "head-reuse"), ("6.12", "head-reuse"), ("newest-with-symbols", "shared-tail")),
)
def test_with_symbols(
    boot: Boot, record_property: Record, line: str, layout: str, levels: int
) -> None:
    scenario = "basic-4level" if levels == 4 else "basic"
    made = boot(line, scenario, symbols=True)
    found = report(made, "-s", str(made.vmlinux))
    totals = found["totals"]
    row = (
        made.facts["release"],
        scenario,
        *(totals[key] for key in ("folios", "optimized", "freed")),
    )
    record_property("row", (*row, "with crash" if line == "6.1" else "yes"))

    assert found["kernel"]["types_from"] == "dwarf"
    assert found["kernel"]["paging_levels"] == made.facts["paging_levels"] == levels
    assert found["kernel"]["hvo"] == {"built_in": True, "enabled": False, "layout": layout}
    assert (totals["folios"], totals["optimized"], totals["unoptimized"]) == (72, 64, 8)
    assert totals["freed"] == 448
    assert sum(folio["state"] == "active" for folio in found["folios"]) == 10
    agree_on_counts(found, made)
    agree_on_entries(found, oracles.qemu(made.mappings))
    if memmap := made.facts["memmap"]:
        # A head page moves to a frame of its own; of the memmap that booted, eight are gone.
        assert memmap["nr_memmap_pages"] == totals["optimized"]
        assert memmap["nr_memmap_boot_pages"] == PAGES * 64 // 4096 - 8 * totals["optimized"]
    if line == "6.1":
        pages = [page for folio in found["folios"] for page in oracles.pages_of(folio)]
        assert made.vmlinux
        agree_on_entries(found, oracles.crash(made.vmcore, made.vmlinux, pages))
