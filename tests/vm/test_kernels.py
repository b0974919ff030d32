# SPDX-License-Identifier: LGPL-2.1-or-later

"""Real kernels, booted and dumped: the report says what the guest, QEMU and crash say."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, Callable

import pytest

from tests.documents.readme import layout_of
from tests.support import vmemmap
from tests.vm import oracles
from tests.vm.conftest import Boot
from vmcores.recipe import Dump, kernels

PAGES = 2048 << 8
"""Of a guest of 2 GiB; 64 bytes of memmap each."""

LINES = ("5.10", "6.1", "6.12", "6.16", "6.17", "6.18", "6.19", "7.0", "7.1", "7.2", "7.3")
"""Kernel lines that Debian had when this was written."""

Record = Callable[[str, object], None]


def report(made: Dump, *arguments: str) -> dict[str, Any]:
    """What the installed command finds in a dump; nothing may be broken."""
    done = vmemmap(
        "-c", made.vmcore, "verify", *arguments, "--format", "json", check=True, timeout=None
    )
    answer: dict[str, Any] = json.loads(done.stdout)
    # Which dump it is differs between dumps of one kernel.
    del answer["target"]
    return answer


def agree_on_counts(report: dict[str, Any], made: Dump) -> None:
    """The report's counters are the guest's, its folios add up to them, and nothing is broken."""
    agree_on_pools(report, made)
    assert not [finding for finding in report["findings"] if finding["severity"] != "info"]


def agree_on_pools(report: dict[str, Any], made: Dump) -> None:
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


def agree_on_extract(found: dict[str, Any], made: Dump, path: Path) -> None:
    """The extract of a sound kernel lacks nothing, and gives the same report."""
    done = vmemmap("-c", made.vmcore, "extract", path, check=True, timeout=None)
    assert "withheld" not in done.stderr
    assert report(replace(made, vmcore=path)) == found


def agree_on_memmap(found: dict[str, Any], made: Dump) -> None:
    """Where the kernel counts the pages of its memmap, they are those that boot left and heads."""
    memmap = made.facts["memmap"]
    if memmap:
        # A head page moves to a frame of its own; of the memmap that booted, eight frames are gone.
        optimized = found["totals"]["optimized"]
        assert memmap["nr_memmap_pages"] == optimized
        assert memmap["nr_memmap_boot_pages"] == PAGES * 64 // 4096 - 8 * optimized


@pytest.mark.parametrize(
    ("line", "scenario"),
    (
        *((line, "basic") for line in ("6.1", "6.12", "newest-with-symbols")),
        *((line, "basic-4level") for line in ("6.1", "newest-with-symbols")),
    ),
)
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
    without = report(made)
    assert without["kernel"].pop("types_from") == "btf"
    assert {**found, "kernel": {**found["kernel"], **without["kernel"]}} == {
        **without,
        "kernel": found["kernel"],
    }
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
    found = report(made, *symbols_of(made))
    record_property("row", row(found, made))
    agree_without_symbols(found, made)


def test_lines_that_came_later(boot: Boot, record_property: Record) -> None:
    later = [line for line in kernels.lines() if line not in LINES]
    for line in later:
        made = boot(line, "basic")
        agree_without_symbols(report(made, *symbols_of(made)), made)
    record_property("note", f"kernel lines that came after this was written: {later or 'none'}")


def symbols_of(made: Dump) -> tuple[str, ...]:
    """A dump records where its kallsyms are since v6.0."""
    recorded = b"SYMBOL(kallsyms_names)" in made.vmcore.with_name("vmcoreinfo.txt").read_bytes()
    return () if recorded else ("--system-map", str(made.system_map))


def agree_without_symbols(found: dict[str, Any], made: Dump) -> None:
    """The report of the basic scenario is what the guest set up."""
    assert found["kernel"]["types_from"] == "btf"
    grown = made.facts["grown"]
    built_in = found["kernel"]["hvo"]["built_in"]
    if built_in:
        # README says which kernels have which layout.
        assert found["kernel"]["hvo"]["layout"] == layout_of(found["kernel"]["release"])
    optimized = sum(pool["count"] for pool in grown if pool["optimizing"]) if built_in else 0
    assert found["totals"]["optimized"] == optimized
    assert found["totals"]["freed"] == 7 * optimized
    assert found["totals"]["folios"] == sum(pool["count"] for pool in grown)
    agree_on_counts(found, made)
    agree_on_memmap(found, made)
    agree_on_entries(found, oracles.qemu(made.mappings))


@pytest.mark.parametrize("scenario", ("numa", "hvo-off", "surplus", "hotplug"))
@pytest.mark.parametrize("line", ("6.12", "newest"))
def test_scenario(
    boot: Boot, record_property: Record, line: str, scenario: str, tmp_path: Path
) -> None:
    made = boot(line, scenario)
    found = report(made)
    record_property("row", row(found, made))

    grown = sum(pool["count"] for pool in made.facts["grown"] if pool["optimizing"])
    totals = found["totals"]
    if scenario == "hvo-off":
        assert (totals["optimized"], totals["unoptimized"]) == (0, 72)
    elif scenario == "hotplug":
        # Memory that hosts its own memmap is never optimized: two blocks of 128 MiB.
        plugged = [folio for folio in found["folios"] if folio["pfn"] >= 1 << 20]
        assert 100 < len(plugged) == totals["unoptimized"] <= 126
        assert totals["optimized"] == grown - len(plugged)
        messages = [find["message"] for find in found["findings"] if find["rule"] == "unoptimized"]
        assert len(messages) == len(plugged)
        assert all("hosted by the hot-plugged memory" in message for message in messages)
        assert [other["kind"] for other in found["others"]] == ["self-hosted"]
    else:
        gigantic = [folio for folio in found["folios"] if folio["order"] == 18]
        surplus = sum(pool["surplus"] for pool in made.facts["hugepages"])
        assert totals["optimized"] == grown + len(gigantic) + surplus
        assert totals["freed"] == 7 * (grown + surplus) + 4095 * len(gigantic)
        assert bool(gigantic) == (scenario == "numa")
        assert surplus == (8 if scenario == "surplus" else 0)
    agree_on_counts(found, made)
    agree_on_entries(found, oracles.qemu(made.mappings))
    agree_on_extract(found, made, tmp_path / "extract")


def test_a_kernel_that_protects_too_little(
    boot: Boot, record_property: Record, tmp_path: Path
) -> None:
    # Of 1 GiB folios from boot, v6.15 to v7.1 write-protect the first 64 vmemmap pages alone.
    made = boot("7.1", "gigantic")
    found = report(made)
    record_property("row", row(found, made))

    gigantic = [folio for folio in found["folios"] if folio["order"] == 18]
    assert {folio["verdict"] for folio in gigantic} == {"optimized"}
    assert {folio["read_only"] for folio in gigantic} == {"1-63"}
    assert {finding["rule"] for finding in found["findings"]} == {"tail-writable"}
    assert {finding["severity"] for finding in found["findings"]} == {"warning"}
    agree_on_entries(found, oracles.qemu(made.mappings))
    agree_on_extract(found, made, tmp_path / "extract")


@pytest.mark.parametrize("line", ("6.12", "newest"))
def test_kdump(boot: Boot, record_property: Record, line: str) -> None:
    made = boot(line, "kdump")
    full = report(made)
    record_property("row", row(full, made))

    assert (full["totals"]["folios"], full["totals"]["optimized"]) == (72, 64)
    agree_on_counts(full, made)
    agree_on_entries(full, oracles.qemu(made.mappings))
    assert [path.name for path in made.crashed] == ["vmcore.lzo", "vmcore.zlib", "vmcore.elf"]
    for vmcore in made.crashed:
        assert report(replace(made, vmcore=vmcore)) == full


def test_a_dump_opens_without_debuginfo_beside_with_it(boot: Boot, record_property: Record) -> None:
    made = boot("newest-with-symbols", "basic", symbols=True)
    seconds: dict[str, list[float]] = {"btf": [], "dwarf": []}
    for _ in range(3):
        for types_from, arguments in ("btf", ()), ("dwarf", ("-s", str(made.vmlinux))):
            start = time.monotonic()
            assert report(made, *arguments)["kernel"]["types_from"] == types_from
            seconds[types_from].append(time.monotonic() - start)
    ratio = min(seconds["btf"]) / min(seconds["dwarf"])
    release = made.facts["release"]
    record_property("note", f"command to report, {release}: BTF takes {ratio:.2f} of DWARF's time")


@pytest.mark.parametrize("flavour", ("amd64", "rt-amd64"))
@pytest.mark.parametrize("line", ("6.12", "newest"))
def test_flavours(boot: Boot, record_property: Record, line: str, flavour: str) -> None:
    made = boot(f"{line}-{flavour}", "basic")
    assert made.facts["release"].endswith(f"-{flavour}")
    found = report(made)
    record_property("row", row(found, made))
    agree_without_symbols(found, made)


def test_the_coming_kernel(boot: Boot, record_property: Record) -> None:
    made = boot("experimental", "basic")
    found = report(made)
    record_property("row", row(found, made))
    agree_without_symbols(found, made)
    record_property("note", f"the coming kernel: {made.facts['package']}")
