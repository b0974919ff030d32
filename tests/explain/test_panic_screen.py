# SPDX-License-Identifier: LGPL-2.1-or-later

"""The log in the QR code of a panic screen; the forms of whole logs are in collected.py."""

from __future__ import annotations

from random import Random
from typing import Callable

import pytest

from drgn_vmemmap.explain.text.decode import decode
from drgn_vmemmap.explain.text.panic_screen import without_panic_screens
from tests.explain.collected import by_bits, by_bytes
from tests.explain.forms import FORMS
from tests.explain.logs import LOG

ADDRESS = "https://panic.example.com/panic_report#?a=x86_64&v=6.18.3-arch1-1&"

both_encodings = pytest.mark.parametrize(("name", "encode"), (("z", by_bytes), ("zl", by_bits)))


def decoded(text: str) -> list[bytes]:
    """The bytes that the addresses in a text stand for."""
    found: list[bytes] = []
    without_panic_screens(text, lambda data: found.append(data) or "log")  # type: ignore[func-returns-value]
    return found


@both_encodings
def test_any_number_of_bytes_is_decoded(name: str, encode: Callable[[bytes], str]) -> None:
    random = Random(name)
    for size in range(1, 120):
        data = random.randbytes(size - 1) + b"\0"
        assert decoded(f"{ADDRESS}{name}={encode(data)}") == [data]


def test_an_address_is_decoded_once() -> None:
    address = f"{ADDRESS}z={by_bytes(b'one')}"
    other = f"{ADDRESS}z={by_bytes(b'other')}"
    assert decoded(f"{address}\n> {address}\n{other}\n") == [b"one", b"other"]


def test_what_follows_an_address_is_no_part_of_it() -> None:
    lines = (f"{ADDRESS}z={by_bytes(b'data')}", "2026-11-26 15:32 on a host", "4711")
    assert decoded("\n".join(lines)) == [b"data"]
    text = without_panic_screens("\n".join(lines), lambda data: "log")
    assert text.splitlines()[1:] == ["log", "", *lines[1:]]


@pytest.mark.parametrize("digits", ("99999999999999999", "8192000", "0"))
def test_digits_that_stand_for_no_log_stay(digits: str) -> None:
    for name in ("z", "zl"):
        address = f"{ADDRESS}{name}={digits}"
        assert decode(address.encode()) == (address, None)


def test_last_bits_for_which_the_kernel_has_too_few_digits_cost_the_checksum_alone() -> None:
    for size in range(1, 120):
        data = Random(size).randbytes(size)
        (found,) = decoded(f"{ADDRESS}zl={by_bits(data + bytes([255] * 4))}")
        assert found.startswith(data)


@pytest.mark.parametrize("name", ("panic screen", "panic screen, before v6.15"))
@pytest.mark.parametrize("missing", (2, 3, 100))
def test_of_an_address_that_is_cut_off_the_rest_is_missed(name: str, missing: int) -> None:
    cut = decode(FORMS[name](LOG)[:-missing])
    assert LOG[0] in cut.text
    assert cut.problem is not None and "cut off" in cut.problem
