# SPDX-License-Identifier: LGPL-2.1-or-later

"""Real kernels in which something else than HugeTLB happens to the vmemmap, or goes wrong there."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from drgn_vmemmap.kernel.discovery import discover
from drgn_vmemmap.target.memory import ProgramMemory
from drgn_vmemmap.vmemmap.owners import OwnerKind, OwnerReader
from drgn_vmemmap.vmemmap.snapshot import Snapshot
from tests.support import BIN, ROOT, open_vmcore, run, vmemmap
from tests.vm import oracles, test_live
from tests.vm.conftest import Boot
from tests.vm.test_kernels import (
    PAGES,
    Record,
    agree_on_counts,
    agree_on_entries,
    agree_on_memmap,
    agree_on_pools,
    report,
    row,
)
from vmcores.recipe import Dump, kernels, scenarios
from vmcores.recipe.guest import Guest

PAGE = 4096

FAILED_PAGE = 5
"""Index in its folio of the page that guest/poison.sh has fail."""


def agree_on_folios(found: dict[str, Any], made: Dump) -> None:
    """The report's folios are those of the guest's /proc/kpageflags."""
    used = {folio["pfn"]: folio["state"] == "active" for folio in found["folios"]}
    assert used == {folio["pfn"]: folio["state"] == "used" for folio in made.facts["folios"]}


@pytest.mark.parametrize("line", ("6.1", "6.12", "newest"))
def test_device_dax_beside_the_folios_is_not_taken_for_them(
    boot: Boot, record_property: Record, line: str
) -> None:
    made = boot(line, "dax")
    found = report(made)
    record_property("row", row(found, made))

    mapped = oracles.qemu(made.mappings)
    base = int(found["kernel"]["vmemmap_base"], 16)
    namespaces = made.facts["dax"]
    assert [(each["map"], each["align"]) for each in namespaces] == [
        ("mem", 2 << 20),
        ("dev", 2 << 20),
        ("mem", 1 << 30),
    ]
    for namespace in namespaces:
        agree_on_namespace(namespace, mapped, base)
    totals = found["totals"]
    assert (totals["folios"], totals["optimized"], totals["freed"]) == (72, 64, 448)
    agree_on_counts(found, made)
    agree_on_folios(found, made)
    agree_on_entries(found, mapped)

    # Two vmemmap pages are kept of each compound page's.
    expected = sum(
        each["size"] // each["align"] * (each["align"] // PAGE * 64 // PAGE - 2)
        for each in namespaces
        if each["map"] == "mem"
    )
    devices = [other for other in found["others"] if other["kind"] == "device-dax"]
    assert sum(other["freed"] for other in devices) == expected
    assert (
        sum(other["pages"] for other in devices) == sum(each["size"] for each in namespaces) // PAGE
    )


def agree_on_namespace(
    namespace: dict[str, Any], mapped: dict[int, oracles.Mapped], base: int
) -> None:
    """Of a compound page's memmap all but two frames are saved, unless it lies in the namespace."""
    begin, size, align = int(namespace["address"], 16), namespace["size"], namespace["align"]
    for address in range(begin, begin + size, align):
        pages = range(base + address // PAGE * 64, base + (address + align) // PAGE * 64, PAGE)
        entries = [mapped[page] for page in pages]
        assert all(entry.writable for entry in entries)
        frames = [entry.frame for entry in entries]
        if namespace["map"] == "dev":
            assert len(set(frames)) == len(frames)
            assert all(begin <= frame * PAGE < begin + size for frame in frames)
        else:
            assert len(set(frames)) == 2
            assert len(set(frames[1:])) == 1


@pytest.mark.parametrize("line", ("6.1", "6.12", "newest"))
def test_a_kernel_that_writes_to_a_tail_oopses_and_leaves_its_folios_as_they_are(
    boot: Boot, record_property: Record, line: str
) -> None:
    made = boot(line, "oops")
    found = report(made)
    record_property("row", row(found, made))

    oops = made.facts["oops"]
    log = "\n".join(made.facts["log"])
    console = made.console.read_text()
    for text in log, console:
        address = int(oops["address"], 16)
        assert f"BUG: unable to handle page fault for address: {address:016x}" in text
        assert "#PF: supervisor write access in kernel mode" in text
        assert "#PF: error_code(0x0003) - permissions violation" in text
    walked = re.search(r"PGD \w+ P4D \w+ PUD \w+ PMD \w+ PTE (\w+)", log)
    (folio,) = (each for each in found["folios"] if each["pfn"] == oops["folio"])
    assert walked
    assert int(walked[1], 16) >> 12 & 0xFFFFFFFFFF == folio["reuse_frame"]
    assert not int(walked[1], 16) & 2

    totals = found["totals"]
    assert (totals["folios"], totals["optimized"], totals["freed"]) == (64, 64, 448)
    agree_on_counts(found, made)
    agree_on_folios(found, made)
    agree_on_entries(found, oracles.qemu(made.mappings))

    explained = json.loads(test_live.vmemmap(*explain_log(made)))["explanations"]
    fault = next(each for each in explained if int(each["what"], 16) == int(oops["address"], 16))
    assert "page fault" in fault["line"]
    assert (fault["page"]["folio"], fault["page"]["role"]) == (oops["folio"], "tail")
    assert fault["frame"] == folio["reuse_frame"]
    assert int(fault["walk"][-1]["entry"], 16) == int(walked[1], 16)
    assert "0x0003" in fault["write"]


@pytest.mark.parametrize("line", ("6.1", "6.12", "newest"))
def test_owners_of_folios_are_the_files_and_processes_that_have_them(
    boot: Boot, record_property: Record, line: str
) -> None:
    made = boot(line, "owners")
    found = report(made)
    record_property("row", row(found, made))
    agree_on_counts(found, made)

    script = ROOT / "contrib" / "folio_owners.py"
    done = run(
        BIN / "drgn",
        "-q",
        "--no-default-symbols",
        "-c",
        made.vmcore,
        script,
        check=True,
        timeout=600,
    )
    counted: Counter[str] = Counter()
    for text in done.stdout.splitlines():
        numbers, owner = text.split(": ")
        count, hstate, verdict = numbers.split()
        assert hstate == "hugepages-2048kB"
        counted[re.sub(r"inode \d+", "inode", owner)] += int(count)
        counted[verdict] += int(count)
    alone, *together = made.facts["owners"]
    assert [(alone["file"], alone["count"])] == [(None, 3)]
    assert {(each["file"], each["count"]) for each in together} == {("mapped", 2)}
    users = ", ".join(sorted(f"perl ({each['pid']})" for each in together))
    active = [folio["verdict"] for folio in found["folios"] if folio["state"] == "active"]
    assert counted == {
        "hugetlbfs inode, used, mapped by nobody": 10,
        f"anonymous, mapped by perl ({alone['pid']})": 3,
        f"hugetlbfs inode, mapped, mapped by {users}": 2,
        **Counter(active),
    }


@pytest.mark.parametrize("line", ("6.1", "newest"))
def test_memory_that_processes_are_charged_for_is_told_from_what_they_gave_back(
    boot: Boot, record_property: Record, line: str
) -> None:
    made = boot(line, "charged")
    found = report(made)
    record_property("row", row(found, made))
    agree_on_counts(found, made)

    prog = open_vmcore(made.vmcore)
    owners = OwnerReader(Snapshot(discover(prog), ProgramMemory(prog)))
    kinds = Counter(owner.kind for owner in map(owners.owner, range(PAGES)) if owner)
    # Beside stacks and page tables, the buffers of pipes are charged for.
    assert kinds[OwnerKind.CHARGED] * PAGE >= made.facts["charged"] > 0


@pytest.mark.parametrize("line", ("6.12", "6.18", "newest"))
def test_struct_pages_that_a_shrinking_pool_leaves_as_heads_are_found_and_nothing_else(
    boot: Boot, record_property: Record, line: str
) -> None:
    made = boot(line, "shrunk")
    done = vmemmap("-c", made.vmcore, "verify", "--format", "json", timeout=None)
    found = json.loads(done.stdout)
    record_property("row", row(found, made))
    agree_on_folios(found, made)
    totals = found["totals"]
    assert (totals["folios"], totals["optimized"]) == (10, 10)

    left = heads_of_no_folio(found, made)
    errors = [each for each in found["findings"] if each["severity"] != "info"]
    assert [(each["rule"], int(each["address"], 16)) for each in errors] == [
        ("stale-struct-page", address) for address in left
    ]
    assert done.returncode == int(bool(left))
    # Debian's 6.12 leaves one in each vmemmap page that it gave a frame; the others leave none.
    assert len(left) in ((0, 54 * 7) if line == "6.12" else (0,))
    record_property("note", f"{made.facts['release']}: {len(left)} stale heads after a shrink")


def heads_of_no_folio(found: dict[str, Any], made: Dump) -> list[int]:
    """Addresses of the struct pages with the HugeTLB page type beside the folios, by drgn alone."""
    prog = open_vmcore(made.vmcore)
    (number,) = re.findall(
        rb"NUMBER\(PAGE_HUGETLB_MAPCOUNT_VALUE\)=(-\d+)", prog["VMCOREINFO"].string_()
    )
    mark = (int(number) & 0xFFFFFFFF) >> 24
    start, size = int(found["kernel"]["vmemmap_base"], 16), found["kernel"]["struct_page_size"]
    folios = {folio["pfn"] for folio in made.facts["folios"]}
    heads = []
    for first in range(0, PAGES, 64):
        # page_type is at byte 48 of each.
        kinds = prog.read(start + first * size, 64 * size)[51::size]
        pfns = (first + index for index, kind in enumerate(kinds) if kind == mark)
        heads += [pfn for pfn in pfns if pfn & -512 not in folios]
    return [start + pfn * size for pfn in heads]


def explain_log(made: Dump) -> tuple[object, ...]:
    return ("-c", made.vmcore, "explain", "--dmesg", "--format", "json")


@pytest.mark.parametrize("line", ("6.12", "newest"))
def test_a_kernel_that_examines_itself_sees_what_its_dump_shows(
    boot: Boot, record_property: Record, line: str
) -> None:
    made = boot(line, "inside")
    found = test_live.report("-c", made.vmcore)
    by_command, by_drgn = made.facts["inside"]
    record_property("row", row(by_command, made))

    for report_of_itself in (by_command, by_drgn):
        del report_of_itself["target"]
        movement = report_of_itself.pop("movement")
        assert (movement["moved"], movement["transient"]) == (0, 0)
    assert by_command == by_drgn
    assert by_command["kernel"].pop("live") is True
    assert found["kernel"].pop("live") is False
    assert found.pop("movement") is None
    assert by_command == found
    assert by_command["kernel"]["types_from"] == "btf"
    assert (by_command["totals"]["folios"], by_command["totals"]["optimized"]) == (72, 64)
    agree_on_counts(by_command, made)
    agree_on_memmap(by_command, made)
    agree_on_folios(by_command, made)
    totals = by_command["totals"]
    record_property(
        "note",
        f"{line}, from inside: {totals['folios']} folios, {totals['optimized']} optimized, "
        f"{totals['freed']} frames freed; the guest's /sys and /proc/vmstat: "
        f"{sum(pool['nr'] for pool in made.facts['hugepages'])} folios, {made.facts['memmap']}",
    )

    another_user, locked_down = made.facts["refused"]
    for line, reason in (another_user, "requires root"), (locked_down, "locked down"):
        assert line.startswith("2 drgn-vmemmap: ") and reason in line
        assert line.count("|") == 1


def test_a_vmcore_assembled_from_a_sparse_file_gives_the_report_of_qemus_own(
    tmp_path: Path,
) -> None:
    # More than 3 GiB, so that some of it lies beyond 4 GiB of physical addresses.
    scenario = replace(scenarios.named("basic"), memory=4096, memory_file=True)
    with Guest(kernels.fetch("newest"), scenario, tmp_path / "console.log") as guest:
        guest.wait_for("ready")
        guest.qmp.execute("stop")
        guest.dump(tmp_path / "assembled")
        guest.dump_by_qemu(tmp_path / "full")
    full = test_live.report("-c", tmp_path / "full")
    assert test_live.report("-c", tmp_path / "assembled") == full
    assert full["totals"]["optimized"] == 64


@pytest.mark.parametrize("line", ("6.12", "newest"))
def test_memory_that_failed_in_folios_is_reported_where_the_kernel_has_it(
    boot: Boot, record_property: Record, line: str
) -> None:
    made = boot(line, "poison")
    done = vmemmap("-c", made.vmcore, "verify", "--format", "json", timeout=None)
    found = json.loads(done.stdout)
    record_property("row", row(found, made))
    failed = {each["pfn"]: each["pfn"] + FAILED_PAGE for each in made.facts["poisoned"]}
    assert made.facts["corrupted_kb"] == len(failed) * PAGE // 1024

    # Of the four folios, the free ones were dissolved, and what the soft one in use held migrated.
    poisoned = [each["pfn"] for each in made.facts["folios"] if each["state"] == "poisoned"]
    kept = [each["pfn"] for each in made.facts["poisoned"] if each["state"] == "used"]
    assert poisoned == kept[:1]
    findings = [each for each in found["findings"] if each["rule"] == "poisoned"]
    assert [each["folio"] for each in findings] == poisoned
    for each in findings:
        assert f"memory failed at PFN {failed[each['folio']]:#x};" in each["message"]
        assert "until its vmemmap is restored" in each["message"]
    folios = {each["pfn"]: each["state"] for each in found["folios"]}
    assert {each["pfn"] for each in made.facts["folios"]} == folios.keys()
    assert not folios.keys() & failed.keys() - set(poisoned)

    # Debian's 6.12 leaves stale heads in what it restores; nothing else is broken.
    errors = [each for each in found["findings"] if each["severity"] == "error"]
    left = heads_of_no_folio(found, made) if line == "6.12" else []
    assert [int(each["address"], 16) for each in errors] == left
    assert {each["rule"] for each in errors} <= {"stale-struct-page"}
    assert done.returncode == int(bool(left))
    agree_on_pools(found, made)

    text = vmemmap("-c", made.vmcore, timeout=None)
    assert text.returncode == 0
    assert f"info: poisoned: folio {poisoned[0]:#x}: memory failed at PFN" in text.stdout
    explained = vmemmap(
        "-c", made.vmcore, "explain", *(f"pfn:{pfn:#x}" for pfn in failed.values()), timeout=None
    )
    assert explained.returncode == 0
    for folio, pfn in failed.items():
        (own,) = (part for part in explained.stdout.split("\n\n") if f"pfn:{pfn:#x}:" in part)
        if folio in poisoned:
            assert f"PFN {pfn:#x} is one that failed" in own
        else:
            assert "of no HugeTLB folio" in own and "hwpoison" in own
