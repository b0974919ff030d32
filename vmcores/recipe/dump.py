# SPDX-License-Identifier: LGPL-2.1-or-later
"""From a kernel line and a scenario to a vmcore and the guest's own account."""

from __future__ import annotations

import json
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vmcores.recipe import elf, kernels, scenarios
from vmcores.recipe.guest import Guest, Words
from vmcores.recipe.kernels import Kernel


@dataclass(frozen=True)
class Dump:
    """What one run leaves."""

    vmcore: Path
    guest: Path  #: guest.json: facts(), on disk
    console: Path  #: what the guest printed on its console
    system_map: Path  #: the symbols that matter, at the addresses that they were built for
    mappings: Path  #: see Guest.mappings()
    crashed: list[Path]  #: the dumps that the crash kernel made, if the scenario has one
    vmlinux: Path | None  #: the kernel's debuginfo, if it was asked for
    facts: dict[str, Any]  #: see account()


def dump(line: str, scenario: str, output: str | Path, symbols: bool = False) -> Dump:
    """
    Boot a kernel, let it set up a scenario, and dump its memory.

    :param line: see kernels.resolve()
    :param scenario: a name out of scenarios.SCENARIOS
    :param output: directory for vmcore, guest.json and console.log; made if need be
    :param symbols: fetch the kernel's debuginfo as well (about 300 MB)
    :raises RecipeError: it cannot be done; MissingError if the archive lacks the kernel
    """
    chosen = scenarios.named(scenario)
    kernel = kernels.fetch(line, symbols)
    directory = Path(output)
    directory.mkdir(parents=True, exist_ok=True)
    vmcore, console = directory / "vmcore", directory / "console.log"
    started = time.monotonic()
    with Guest(kernel, chosen, console) as guest:
        words, provoked = _settle(guest)
        booted = time.monotonic()
        guest.dump(vmcore)
        mappings = directory / "mappings"
        mappings.write_text(guest.mappings())
        crashed = guest.crash(directory) if chosen.disks else []
    facts = {**account(kernel, scenario, words), **provoked}
    facts["vmcoreinfo"] = complete_vmcoreinfo(vmcore, words)
    system_map = directory / "System.map"
    system_map.write_text(_system_map(words, (directory / "vmcoreinfo.txt").read_text()))
    facts["seconds"] = {
        "guest": round(booted - started, 1),
        "dump": round(time.monotonic() - booted, 1),
    }
    written = directory / "guest.json"
    written.write_text(json.dumps(facts, indent=1) + "\n")
    return Dump(vmcore, written, console, system_map, mappings, crashed, kernel.symbols, facts)


def boot(line: str, scenario: str, output: str | Path) -> Guest:
    """
    Boot a kernel and let it set up a scenario as dump() does, but leave it running.

    :param output: directory for console.log; made if need be
    :returns: the guest, for a with statement, at whose end it is gone
    :raises RecipeError: as dump() does
    """
    kernel = kernels.fetch(line)
    directory = Path(output)
    directory.mkdir(parents=True, exist_ok=True)
    guest = Guest(kernel, scenarios.named(scenario), directory / "console.log")
    try:
        _settle(guest)
    except BaseException:
        guest.__exit__()
        raise
    return guest


def _settle(guest: Guest) -> tuple[Words, dict[str, Any]]:
    """Wait until the scenario is set up; returns what the guest said, and what was provoked."""
    provoked = guest.scenario.provoke(guest) if guest.scenario.provoke else {}
    return guest.wait_for("ready"), provoked


def account(kernel: Kernel, scenario: str, words: Words) -> dict[str, Any]:
    """
    Put what the guest said into the form of guest.json.

    ``grown`` is how each pool grew: ``optimizing`` is the switch at that time, None where the
    kernel has none. ``hugepages`` and ``memmap`` are the kernel's own counters at the end; one that
    the kernel does not have is not in ``memmap``. ``folios`` are those that /proc/kpageflags shows:
    ``state`` is "free", "used" or "poisoned". ``dax`` are the device-DAX namespaces, each with the
    physical range that has a memmap and the part of it that the device offers; ``map`` is where
    the memmap lies: "mem" (in memory, optimized) or "dev" (in the namespace itself, not optimized).
    ``poisoned`` are the folios in which a page was taken out of service: "hard" as one that failed,
    "soft" as one that is about to; ``corrupted_kb`` is the kernel's own count of them, in
    kilobytes. ``owners`` are the processes that hold folios: so many of a
    ``file``, or of none, which is an anonymous mapping. ``charged`` is what processes are charged
    for their stacks and page tables, in bytes. ``inside`` are the reports that the guest
    made of itself, by this tool's command and by drgn's; ``refused`` are exit code and lines of
    those that may not. ``log`` is what the kernel's log says of all this.
    """
    return {
        "release": words["release"][0],
        "package": kernel.package,
        "scenario": scenario,
        "command_line": words["command_line"][0],
        "paging_levels": 5 if int(words["la57"][0]) else 4,
        "vmlinux": str(kernel.symbols) if kernel.symbols else None,
        "optimizing": _switch(words["optimizing"][0]),
        "grown": [_grown(value) for value in words.get("grown", [])],
        "used": [
            dict(zip(("size_kb", "count"), _numbers(value))) for value in words.get("used", [])
        ],
        "hugepages": [_pool(value) for value in words.get("hugepages", [])],
        "memmap": _counters(words.get("vmstat", [])),
        "folios": [_folio(value) for value in words.get("folio", [])],
        "dax": [_namespace(value) for value in words.get("dax", [])],
        "poisoned": [_poisoned(value) for value in words.get("poisoned", [])],
        "corrupted_kb": _corrupted(words.get("meminfo", [])),
        "owners": [_owner(value) for value in words.get("owner", [])],
        "charged": sum(map(int, words.get("charged", []))),
        "inside": [json.loads(value) for value in words.get("inside", [])],
        "refused": words.get("refused", []),
        "log": words.get("log", []) + words.get("oops", []),
    }


def complete_vmcoreinfo(vmcore: Path, words: Words) -> dict[str, Any]:
    """Make sure that the vmcore has a note VMCOREINFO, and say where it came from."""
    address, size = (int(number, 16) for number in words["vmcoreinfo"][0].split())
    text = elf.vmcoreinfo(vmcore)
    note_from = "qemu"
    if text is None:
        # Without its module qemu_fw_cfg the guest cannot give QEMU the address: it printed it.
        note = elf.read_physical(vmcore, address, size)
        elf.append_notes(vmcore, note)
        text = elf.vmcoreinfo(vmcore) or b""
        note_from = "recipe"
    (vmcore.parent / "vmcoreinfo.txt").write_bytes(text.rstrip(b"\0"))
    return {"address": hex(address), "size": size, "note_from": note_from}


def _system_map(words: Words, vmcoreinfo: str) -> str:
    """The guest's symbols as its System.map has them: where they are without KASLR."""
    moved = re.search(r"^KERNELOFFSET=([0-9a-f]+)$", vmcoreinfo, re.MULTILINE)
    offset = int(moved[1], 16) if moved else 0
    symbols = (line.split()[:3] for line in words.get("symbol", []))
    return "".join(
        f"{int(address, 16) - offset:016x} {kind} {name}\n" for address, kind, name in symbols
    )


def _grown(value: str) -> dict[str, Any]:
    node, kilobytes, count, switch = value.split()
    return {
        "node": int(node),
        "size_kb": int(kilobytes),
        "count": int(count),
        "optimizing": _switch(switch),
    }


def _switch(value: str) -> bool | None:
    return None if value == "-" else value != "0"


def _pool(value: str) -> dict[str, int]:
    return dict(zip(("node", "size_kb", "nr", "free", "surplus"), _numbers(value)))


def _namespace(value: str) -> dict[str, Any]:
    namespace, address, size, device, device_address, device_size, align, where = value.split()
    return {
        "namespace": namespace,
        "address": hex(int(address, 0)),
        "size": int(size),
        "device": device,
        "device_address": hex(int(device_address, 0)),
        "device_size": int(device_size),
        "align": int(align),
        "map": where,
    }


def _folio(value: str) -> dict[str, Any]:
    pfn, state = value.split()
    return {"pfn": int(pfn), "state": state}


def _poisoned(value: str) -> dict[str, Any]:
    how, state, pfn = value.split()
    return {"how": how, "state": state, "pfn": int(pfn)}


def _corrupted(values: list[str]) -> int | None:
    """What /proc/meminfo says; None where the kernel does not count it."""
    return next((int(v.split()[1]) for v in values if v.startswith("HardwareCorrupted:")), None)


def _owner(value: str) -> dict[str, Any]:
    pid, count, *file = value.split()
    return {"pid": int(pid), "count": int(count), "file": file[0] if file else None}


def _counters(values: list[str]) -> dict[str, int]:
    return {name: int(number) for name, number in (value.split() for value in values)}


def _numbers(value: str) -> list[int]:
    return [int(number) for number in value.split()]
