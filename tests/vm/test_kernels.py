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

LINES = ("5.10", "6.1", "6.12", "6.16", "6.17", "6.18", "6.19", "7.0", "7.1", "7.2", "7.3")
"""Kernel lines that Debian had when this was written; newer ones are found at run time."""

Record = Callable[[str, object], None]


def report(made: Dump, *arguments: str) -> dict[str, Any]:
    """What the installed command says of a dump."""
    done = subprocess.run(
        [BIN / "drgn-vmemmap", "-c", made.vmcore, *arguments, "--folios", "--format", "json"],
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


def row(found: dict[str, Any], made: Dump, agreed: str = "yes") -> tuple[object, ...]:
    """A line of the table at the end."""
    totals = found["totals"]
    counts = (totals[key] for key in ("folios", "optimized", "freed"))
    return (made.facts["release"], made.facts["scenario"], *counts, agreed)


def agree_on_memmap(found: dict[str, Any], made: Dump) -> None:
    """Where the kernel counts the pages of its memmap, they are those that boot left and heads."""
    memmap = made.facts["memmap"]
    if memmap:
        # A head page moves to a frame of its own; of the memmap that booted, eight frames are gone.
        optimized = found["totals"]["optimized"]
        assert memmap["nr_memmap_pages"] == optimized
        assert memmap["nr_memmap_boot_pages"] == PAGES * 64 // 4096 - 8 * optimized


@pytest.mark.parametrize("scenario", ("basic", "basic-4level"))
@pytest.mark.parametrize("line", ("6.1", "6.12", "newest-with-symbols"))
def test_with_symbols(boot: Boot, record_property: Record, line: str, scenario: str) -> None:
    made = boot(line, scenario, symbols=True)
    found = report(made, "-s", str(made.vmlinux))
    record_property("row", row(found, made, "with crash" if line == "6.1" else "yes"))

    layout = "head-reuse" if line.startswith("6") else "shared-tail"
    assert found["kernel"]["hvo"] == {"built_in": True, "enabled": False, "layout": layout}
    assert found["kernel"]["types_from"] == "dwarf"
    assert found["kernel"]["paging_levels"] == made.facts["paging_levels"]
    assert made.facts["paging_levels"] == (5 if scenario == "basic" else 4)
    totals = found["totals"]
    assert (totals["folios"], totals["optimized"], totals["unoptimized"]) == (72, 64, 8)
    assert totals["freed"] == 448
    assert sum(folio["state"] == "active" for folio in found["folios"]) == 10
    agree_on_counts(found, made)
    agree_on_memmap(found, made)
    agree_on_entries(found, oracles.qemu(made.mappings))
    if line == "6.1":
        pages = [page for folio in found["folios"] for page in oracles.pages_of(folio)]
        assert made.vmlinux
        agree_on_entries(found, oracles.crash(made.vmcore, made.vmlinux, pages))


@pytest.mark.parametrize("line", LINES)
def test_without_symbols(boot: Boot, record_property: Record, line: str) -> None:
    made = boot(line, "basic")
    # A dump tells where its kallsyms are since v6.0.
    arguments = ("--system-map", str(made.system_map)) if line == "5.10" else ()
    found = report(made, *arguments)
    record_property("row", row(found, made))

    assert found["kernel"]["types_from"] == "btf"
    grown = made.facts["grown"]
    built_in = found["kernel"]["hvo"]["built_in"]
    optimized = sum(pool["count"] for pool in grown if pool["optimizing"]) if built_in else 0
    assert found["totals"]["optimized"] == optimized
    assert found["totals"]["freed"] == 7 * optimized
    assert found["totals"]["folios"] == sum(pool["count"] for pool in grown)
    agree_on_counts(found, made)
    agree_on_memmap(found, made)
    agree_on_entries(found, oracles.qemu(made.mappings))
