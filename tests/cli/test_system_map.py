# SPDX-License-Identifier: LGPL-2.1-or-later

"""A System.map gives what kallsyms give."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from drgn.helpers.linux.kallsyms import load_vmlinux_kallsyms

from tests.support import answer, open_vmcore, refused, vmcore, vmemmap

KdumpBuilder = pytest.importorskip("kdumpling", reason="kdumpling writes its dumps").KdumpBuilder
VMCORE = vmcore("head-reuse")


SYMBOLS = (
    *("__start_BTF", "__stop_BTF", "hstates", "hugetlb_max_hstate", "max_pfn", "mem_section"),
    *("node_data", "vmemmap_base", "vmemmap_optimize_enabled", "hugetlb_optimize_vmemmap_key"),
)


@pytest.fixture
def system_map(tmp_path: Path) -> Any:
    """Writes the recorded kernel's System.map, less some symbols, or with others renamed."""
    prog = open_vmcore(VMCORE)
    symbols = load_vmlinux_kallsyms(prog)
    offset = int(prog["VMCOREINFO"].string_().split(b"KERNELOFFSET=")[1].split()[0], 16)

    def write(*without: str, added: str = "") -> Path:
        path = tmp_path / "System.map"
        with path.open("w") as file:
            for name in SYMBOLS:
                if name not in without:
                    (symbol,) = symbols(prog, name, None, True)
                    file.write(f"{symbol.address - offset:016x} D {name}{added}\n")
        return path

    return write


def test_a_system_map_gives_what_kallsyms_give(system_map: Any, shown: str) -> None:
    # A kernel can be built without the variable vmemmap_base.
    for without in ((), ("vmemmap_base",)):
        done = answer("--system-map", system_map(*without), prog=open_vmcore(VMCORE))
        assert (done.returncode, done.stdout) == (0, shown)


def test_names_in_a_system_map_may_be_those_that_thin_lto_makes(
    system_map: Any, shown: str
) -> None:
    path = system_map(added=".llvm.123456")
    done = answer("--system-map", path, prog=open_vmcore(VMCORE))
    assert (done.returncode, done.stdout) == (0, shown)


@pytest.mark.parametrize(
    ("without", "words"),
    (
        (("hstates",), ("HugeTLB",)),
        (("__start_BTF",), ("built without it", "BTF", "-s")),
        (SYMBOLS, ("System.map",)),
    ),
)
def test_a_kernel_without(
    system_map: Any, without: tuple[str, ...], words: tuple[str, ...]
) -> None:
    prog = open_vmcore(VMCORE)
    refused(answer("--system-map", system_map(*without), prog=prog), 2, *words)


def test_a_kernel_without_symbols_or_kallsyms(tmp_path: Path) -> None:
    builder = KdumpBuilder(arch="x86_64")
    builder.set_vmcoreinfo(
        "OSRELEASE=5.15.0\nPAGESIZE=4096\nSYMBOL(swapper_pg_dir)=ffffffff81000000\n"
    )
    builder.add_memory_segment(0x1000, bytes(4096))
    builder.write(str(tmp_path / "vmcore"))
    refused(vmemmap("-c", tmp_path / "vmcore"), 2, "5.15.0", "-s", "--system-map")


def test_a_device_that_never_ends_is_no_system_map() -> None:
    done = answer("--system-map", "/dev/zero", prog=open_vmcore(VMCORE))
    refused(done, 2, "/dev/zero is no System.map")
