# SPDX-License-Identifier: LGPL-2.1-or-later
"""The guest's user space: busybox, some modules, a scenario's script and its programs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from vmcores.recipe import apt, modules
from vmcores.recipe.cpio import Archive
from vmcores.recipe.errors import MissingError
from vmcores.recipe.inside import Tool
from vmcores.recipe.kernels import Kernel
from vmcores.recipe.programs import Programs

GUEST = Path(__file__).parent / "guest"

#: Every guest tries to announce VMCOREINFO to QEMU, so that it ends up in the dump's notes.
COMMON_MODULES = ("qemu_fw_cfg",)


def write(
    output: Path,
    kernel: Kernel,
    script: str,
    wanted: Sequence[str] = (),
    programs: Programs | Tool | None = None,
) -> None:
    """
    Write the initramfs of one scenario.

    :param output: the archive, uncompressed
    :param kernel: whose modules to take
    :param script: name of the scenario's shell script in guest/
    :param wanted: modules to insert before the script runs
    :param programs: Debian programs that the script calls beyond busybox
    :raises MissingError: modules are wanted, and the archive has none of this kernel
    """
    if wanted and kernel.modules is None:
        raise MissingError(f"{kernel.release}: its modules are not in the archive")
    busybox = apt.unpack("busybox-static")
    with open(output, "wb") as file:
        archive = Archive(file)
        for name in ("dev", "proc", "sys", "run", "tmp", "mnt", "bin", "sbin"):
            archive.directory(name)
        archive.copy("bin/busybox", _program(busybox, "busybox"))
        for path in sorted(GUEST.iterdir()):
            archive.copy("init" if path.name == "init.sh" else path.name, path)
        archive.symlink("scenario.sh", script)
        _add_modules(archive, kernel, (*COMMON_MODULES, *wanted))
        if programs:
            programs.add_to(archive, kernel)
        archive.close()


def _add_modules(archive: Archive, kernel: Kernel, wanted: Iterable[str]) -> None:
    ordered = modules.load_order(kernel.modules, wanted) if kernel.modules else {}
    for name, data in ordered.items():
        archive.data(f"modules/{name}.ko", data)
    archive.text("modules/order", "".join(name + "\n" for name in ordered))


def _program(unpacked: Path, name: str) -> Path:
    return next(path for path in sorted(unpacked.rglob(f"bin/{name}")) if path.is_file())
