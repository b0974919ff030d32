# SPDX-License-Identifier: LGPL-2.1-or-later
"""The scenarios, as data: what to give a guest, and which script of guest/ it runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from vmcores.recipe import oops
from vmcores.recipe.errors import RecipeError
from vmcores.recipe.inside import Tool
from vmcores.recipe.programs import Programs

if TYPE_CHECKING:
    from vmcores.recipe.guest import Guest

HVO = "hugetlb_free_vmemmap=on"


@dataclass(frozen=True)
class Scenario:
    """One way to set up a guest and its pools of HugeTLB folios."""

    name: str
    about: str  #: one line, for people
    script: str = "basic.sh"  #: in guest/
    memory: int = 2048  #: MiB
    memory_file: bool = False  #: keep the memory in a sparse file, as it is more than there is
    command_line: str = HVO  #: of the kernel, beyond what every guest gets
    qemu: tuple[str, ...] = ()  #: further arguments
    modules: tuple[str, ...] = ()
    programs: Programs | Tool | None = None
    disks: tuple[str, ...] = ()  #: the crash kernel fills these, in this order, with dumps
    #: What a debugger does to the guest, if anything; it returns what guest.json will say of it.
    provoke: Callable[[Guest], dict[str, Any]] | None = None
    deadline: float = 180  #: seconds from the start to the guest's last word


BASIC = Scenario(
    "basic", "64 optimized folios of 2 MiB and 8 that are not optimized, 10 in use; 5-level paging"
)


def _two_nodes(second: int) -> tuple[str, ...]:
    """
    Split the memory between two nodes: 4 GiB for the first, ``second`` GiB for the other.

    The first has a GiB that is free from end to end wherever KASLR puts the kernel: beyond 4 GiB of
    physical addresses, as below them are only 3 GiB of memory.
    """
    return (
        *("-smp", "2,sockets=2"),
        *("-object", "memory-backend-ram,id=memory0,size=4G"),
        *("-object", f"memory-backend-ram,id=memory1,size={second}G"),
        *("-numa", "node,nodeid=0,cpus=0,memdev=memory0"),
        *("-numa", "node,nodeid=1,cpus=1,memdev=memory1"),
    )


_HUNT = Scenario(
    "hunt",
    "two nodes, and step by step what hosts do to their pools; for the hunt of tests/vm",
    script="hunt.sh",
    memory=7168,
    command_line=f"{HVO} hugepagesz=1G hugepages=0:1,1:1",
    qemu=_two_nodes(3),
    programs=Programs(("perl-base",), ("perl",)),
    deadline=1800,
)

_ALL = (
    BASIC,
    Scenario(
        "numa",
        "two nodes: 1 GiB folios from boot on both, 2 MiB folios optimized and not on both",
        script="numa.sh",
        memory=7168,
        command_line=f"{HVO} hugepagesz=1G hugepages=0:1,1:1",
        qemu=_two_nodes(3),
    ),
    Scenario(
        "gigantic",
        "three 1 GiB folios from boot beside 2 MiB ones",
        script="gigantic.sh",
        memory=7168,
        command_line=f"{HVO} hugepagesz=1G hugepages=3",
    ),
    replace(
        BASIC,
        name="kdump",
        about="as basic, then a crash: three dumps by makedumpfile in the crash kernel",
        script="kdump.sh",
        command_line=f"{HVO} crashkernel=512M",
        modules=("virtio_pci", "virtio_blk"),
        programs=Programs(("kexec-tools", "makedumpfile"), ("kexec", "makedumpfile"), True),
        disks=("vmcore.lzo", "vmcore.zlib", "vmcore.elf"),
        deadline=600,
    ),
    Scenario(
        "hvo-off", "HVO switched off: 72 folios that are not optimized, 10 in use", command_line=""
    ),
    Scenario(
        "hotplug",
        "folios fill 256 MiB of hot-plugged memory, which hosts its own memmap, and some from boot",
        script="hotplug.sh",
        command_line=f"{HVO} memory_hotplug.memmap_on_memory=1",
        qemu=(
            *("-m", "2048M,slots=1,maxmem=4G"),
            *("-object", "memory-backend-ram,id=plugged,size=256M"),
            *("-device", "pc-dimm,memdev=plugged"),
        ),
    ),
    Scenario(
        "dax",
        "as basic, beside device-DAX namespaces with and without an optimized memmap",
        script="dax.sh",
        memory=7168,  # 3 GiB of it lie below 4 GiB, the rest from there on
        command_line=f"{HVO} memmap=256M!4G memmap=256M!4608M memmap=2G!6G",
        modules=("nd_e820", "nd_pmem", "dax_pmem", "device_dax"),
        programs=Programs(("ndctl",), ("ndctl",)),
    ),
    Scenario(
        "oops",
        "64 optimized folios; the kernel writes to a read-only tail page, oopses, and goes on",
        script="oops.sh",
        provoke=oops.provoke,
    ),
    replace(
        BASIC,
        name="poison",
        about="as basic, then a page fails in each of four folios: free and used, hard and soft",
        script="poison.sh",
    ),
    replace(
        BASIC,
        name="owners",
        about="as basic, and processes map folios: anonymous ones, and those of a file",
        script="owners.sh",
        programs=Programs(("perl-base",), ("perl",)),
    ),
    replace(
        BASIC,
        name="inside",
        about="as basic; then the guest reports on itself, from its own /proc/kcore",
        script="inside.sh",
        programs=Tool(),
    ),
    replace(
        BASIC,
        name="watched",
        about="the guest watches itself while its pool is resized, and a debugger breaks a folio",
        script="watched.sh",
        memory=1024,
        programs=Tool(extracts=True),
        deadline=1200,
    ),
    Scenario(
        "live",
        "two nodes whose pools change all the time: resized, split, migrated, soft-offlined",
        script="live.sh",
        memory=12288,  # much is never touched: there is always space for a new folio of 1 GiB
        qemu=_two_nodes(8),
        programs=Programs(("perl-base",), ("perl",)),
        deadline=600,
    ),
    _HUNT,
    replace(
        _HUNT,
        name="hunt-cma",
        about="as hunt, with folios of 1 GiB from a CMA area, and none from boot",
        command_line=f"{HVO} hugepagesz=1G hugetlb_cma=1:1G",
    ),
    Scenario(
        "big",
        "a host of 128 GiB with 60,000 folios of 2 MiB, all optimized",
        script="big.sh",
        memory=131072,
        memory_file=True,
        deadline=600,
    ),
    Scenario(
        "shrunk",
        "a pool of 64 optimized folios that shrinks to 10: the others are restored and given back",
        script="shrunk.sh",
    ),
    replace(
        BASIC,
        name="charged",
        about="as basic, in memory that processes were charged for, beside some that are",
        script="charged.sh",
    ),
    Scenario(
        "surplus",
        "8 folios in the pool and 8 surplus ones, all in use; PTI; processes share a large folio",
        script="surplus.sh",
        command_line=f"{HVO} pti=on",
    ),
    replace(
        BASIC,
        name="basic-4level",
        about="as basic, with 4-level paging",
        command_line=f"{HVO} no5lvl",
    ),
)

SCENARIOS: dict[str, Scenario] = {scenario.name: scenario for scenario in _ALL}


def named(name: str) -> Scenario:
    """Return a scenario by its name; RecipeError names the ones there are."""
    if name not in SCENARIOS:
        raise RecipeError(f"no scenario {name}; there are: {', '.join(SCENARIOS)}")
    return SCENARIOS[name]
