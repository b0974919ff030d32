# SPDX-License-Identifier: LGPL-2.1-or-later

"""Files that are taken for dumps: what they are, by their first bytes, and what to do with them."""

from __future__ import annotations

START_SIZE = 512
"""How many of a file's first bytes say what it is."""

_ACQUIRED = "is an image of memory without VMCOREINFO: take a dump with kdump or QEMU"
_VMWARE = "is a snapshot of VMware: make a vmcore of it with vmss2core first"
_PAGE = "is a page of the web, not what it led to: download the file itself"

_KINDS = (
    (0, b"\x1f\x8b", "is compressed: decompress it with gunzip first"),
    (0, b"\x1f\x9d", "is compressed: decompress it with uncompress first"),
    (0, b"\xfd7zXZ\0", "is compressed: decompress it with unxz first"),
    (0, b"\x5d\0\0", "is compressed: decompress it with unlzma first"),
    (0, b"LZIP", "is compressed: decompress it with lzip -d first"),
    (0, b"\x28\xb5\x2f\xfd", "is compressed: decompress it with unzstd first"),
    (0, b"BZh", "is compressed: decompress it with bunzip2 first"),
    (0, b"\x04\x22\x4d\x18", "is compressed: decompress it with unlz4 first"),
    (0, b"\x89LZO\0\r\n\x1a\n", "is compressed: decompress it with lzop -d first"),
    (0, b"PK\3\4", "is a zip archive: unpack it first"),
    (0, b"7z\xbc\xaf\x27\x1c", "is a 7z archive: unpack it first"),
    (0, b"Rar!\x1a\7", "is a rar archive: unpack it first"),
    (257, b"ustar", "is a tar archive: unpack it first"),
    # QEMU_SAVE_MAGIC and QEMU_SAVE_PARTIAL of libvirt; QEMU_VM_FILE_MAGIC of QEMU.
    (0, b"LibvirtQemud", "is a saved guest: dump it with virsh dump --memory-only"),
    (0, b"QEVM", "is a saved guest: dump it with virsh dump --memory-only"),
    (0, b"QFI\xfb", "is the image of a disk, not a dump"),
    # LiME, and AVML, which compresses what it writes.
    (0, b"EMiL", _ACQUIRED),
    (0, b"AVML", _ACQUIRED),
    # Of pmemsave of QEMU, .vmem of VMware, or /dev/mem: the BIOS's interrupt vectors, of which
    # the first ones lead to its empty routine, and which Linux leaves alone.
    (0, b"\x53\xff\0\xf0\x53\xff\0\xf0", _ACQUIRED),
    (0, b"\xd2\xbe\xd2\xbe", _VMWARE),
    (0, b"\xd0\xbe\xd2\xbe", _VMWARE),
    (0, b"\xd3\xbe\xd3\xbe", _VMWARE),
    (0, b"\xd1\xba\xd1\xba", _VMWARE),
    (0, b"PAGEDU", "is a dump of Windows"),
    (0, b"version https://git-lfs", "is a pointer of Git LFS: get the file with git lfs pull"),
    # kdump writes it beside the dump, as makedumpfile --dump-dmesg does.
    (0, b"[    0.0000", "is a kernel's log, not its dump: drgn-vmemmap explain --stdin reads logs"),
    (0, b"<!DOCTYPE html", _PAGE),
    (0, b"<html", _PAGE),
)
"""Where in a file a text is, the text, and what the file is."""


def what_it_is(start: bytes) -> str | None:
    """
    What a file is.

    :param start: Its first bytes, :data:`START_SIZE` of them.
    :return: A predicate, such as "is a tar archive"; ``None`` if it is nothing that is known here.
    """
    kinds = (what for at, magic, what in _KINDS if start.startswith(magic, at))
    return next(kinds, None)
