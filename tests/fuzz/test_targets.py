# SPDX-License-Identifier: LGPL-2.1-or-later

"""A short run of each target, the same each time, so that the harness stays alive."""

from __future__ import annotations

import importlib.util
from itertools import islice
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.__main__ import fuzz
from tests.fuzz.answers import Answer, Failure, check, check_growth, limited
from tests.fuzz.targets import TARGETS
from tests.support import examples

SEEDS = 4
"""Of each target, so many are tried as they are."""

EDITS = st.lists(st.tuples(st.integers(0, 4095), st.binary(min_size=1, max_size=8)), max_size=8)
"""Places in an input, and bytes that are written there."""


@pytest.mark.long
@pytest.mark.parametrize("name", TARGETS)
def test_the_seeds_of_a_target_get_an_answer(name: str) -> None:
    seeds = list(islice(TARGETS[name].seeds(), SEEDS))
    assert seeds
    for seed in seeds:
        TARGETS[name].run(seed)


@pytest.mark.long
@pytest.mark.parametrize("name", TARGETS)
def test_damaged_seeds_of_a_target_get_an_answer(name: str) -> None:
    target = TARGETS[name]
    seeds = list(islice(target.seeds(), SEEDS))

    @settings(max_examples=examples(10), suppress_health_check=[HealthCheck.too_slow])
    @given(st.sampled_from(seeds), EDITS)
    def run(seed: bytes, edits: list[tuple[int, bytes]]) -> None:
        data = bytearray(seed)
        for place, written in edits:
            start = place % (len(data) + 1)
            data[start : start + len(written)] = written
        target.run(bytes(data[: target.length]))

    run()


@pytest.mark.long
@pytest.mark.skipif(
    importlib.util.find_spec("atheris") is None,
    reason="atheris is not installed: pip install .[fuzz]",
)
def test_a_target_is_fuzzed_and_what_is_new_is_kept(tmp_path: Path) -> None:
    assert fuzz("btf", tmp_path, "-runs=200", "-seed=1") == 0
    assert list((tmp_path / "corpus").iterdir())
    assert not list(tmp_path.glob("crash-*"))


@pytest.mark.parametrize(
    ("answer", "reason"),
    (
        (Answer(4, b"", b""), "ended with 4"),
        (Answer(1, b"", b""), "ended with 1"),
        (Answer(2, b"", b"one line\nand another\n"), "more than one line"),
        (Answer(2, b"a result\n", b"one line\n"), "more than one line"),
        (Answer(0, b"\x1b[2J\n", b""), "terminal"),
        (Answer(2, b"", b"\x07\n"), "terminal"),
        (Answer(2, b"", b"drgn-vmemmap: internal error, please report it: ...\n"), "internal"),
        (Answer(2, b"", b"drgn-vmemmap: this needs more memory than ...\n"), "more memory"),
    ),
)
def test_what_is_no_answer_is_a_failure(answer: Answer, reason: str) -> None:
    with pytest.raises(Failure, match=reason):
        check(answer, "report")


def test_an_answer_with_a_documented_code_is_no_failure() -> None:
    check(Answer(0, b"a result\n", b""), "report")
    check(Answer(2, b"", b"one line\n"), "report")


def test_memory_that_an_input_takes_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.fuzz.answers.BYTES", 1 << 26)
    with pytest.raises(Failure, match="bytes"), limited():
        bytearray(b"\1") * (1 << 27)


@pytest.mark.long
def test_a_cost_that_grows_faster_than_its_input_is_noticed() -> None:
    numbers = range(1000)
    check_growth(lambda times: sum(1 for _ in range(times) for _ in numbers))
    with pytest.raises(Failure, match="times as long"):
        check_growth(lambda times: sum(1 for _ in range(times**3) for _ in range(200_000)))
