# SPDX-License-Identifier: LGPL-2.1-or-later

"""The header of a compressed extract says which kernel of which host it is from."""

from __future__ import annotations

from pathlib import Path

import pytest

from drgn_vmemmap.extract.recording import extract
from drgn_vmemmap.extract.vmcore import write_kdump
from tests.support import open_vmcore, recorded

NAMES = ("system", "node", "release", "version", "machine")
"""The first members of ``struct new_utsname``, each of 65 bytes."""


def names_in(path: Path) -> dict[str, str]:
    """The names in the header, which begin after the signature and the version."""
    header = path.read_bytes()[12:]
    return {
        name: header[65 * number : 65 * (number + 1)].rstrip(b"\0").decode()
        for number, name in enumerate(NAMES)
    }


@pytest.mark.parametrize("host", ("node-7.example.org", "", "n" * 64, "ü" * 64))
def test_it_has_the_kernels_release_and_the_hosts_name(host: str, tmp_path: Path) -> None:
    path = tmp_path / "vmcore"
    pieces = {0x1000: bytes(4096)}
    write_kdump(path, b"OSRELEASE=6.12.0-test\n", pieces, "6.12.0-test", host)
    names = names_in(path)
    assert names["release"] == "6.12.0-test"
    assert names["node"] == host.encode()[:64].decode()
    assert names["system"] == "Linux"


@pytest.mark.long
def test_a_recorded_vmcore_extracted_again_names_its_kernel(tmp_path: Path) -> None:
    path = tmp_path / "vmcore"
    extract(open_vmcore("head-reuse"), str(path), compress=True)
    assert names_in(path)["release"] == recorded("head-reuse")["kernel"]["release"]
