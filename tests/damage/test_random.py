# SPDX-License-Identifier: LGPL-2.1-or-later

"""
Random damage: whatever is in a dump, the answer is a report, and one of the documented codes.

Seeded, so that a red run can be repeated: the seed is in the name of the test.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator
from functools import cache

import pytest

from drgn_vmemmap import api as examination
from drgn_vmemmap.analysis.report import Report
from drgn_vmemmap.cli import command_line
from drgn_vmemmap.errors import MissingMemory
from tests.damage.catalogue import IMAGES, image, real
from tests.damage.edited import EditedKernel
from tests.support import errors_of, examples, says_where

IMAGE_CASES, REAL_CASES = examples(30), examples(12)
"""In each test."""

READS_LIMIT = 20_000
"""A sound one of these kernels costs some hundred reads; damage must not cost without end."""


class CountedKernel(EditedKernel):
    """A kernel whose reads are counted, that can be damaged at random."""

    def __init__(self, edited: EditedKernel) -> None:
        self.__dict__.update(edited.__dict__)
        self.places = list(self.memory.reads)

    def damage(self, source: random.Random) -> None:
        """Change some of the words that the checks read, or take out some pages."""
        kind = source.choice(("word", "bit", "pointer", "copy", "missing"))
        for _ in range(source.choice((1, 1, 2, 5, 40, 400))):
            address, size = source.choice(self.places)
            if kind == "missing":
                self.memory.missing.add(address >> 12)
                if len(self.memory.missing) == 3:
                    break
                continue
            place = address + 8 * source.randrange(max(1, size // 8))
            try:
                word = int.from_bytes(self.memory.read(place, 8), "little")
            except MissingMemory:
                continue
            self.memory.write(place, self._damaged(kind, word, source))

    def _damaged(self, kind: str, word: int, source: random.Random) -> int:
        kernel = self.kernel
        if kind == "bit":
            return word ^ 1 << source.randrange(64)
        if kind == "copy":
            address, _ = source.choice(self.places)
            return int.from_bytes(self.memory.read(address, 8), "little")
        if kind == "pointer":
            pfn = source.randrange(kernel.paging.max_pfn)
            table = source.choice(self.places)[0] & -4096
            pointers = (
                kernel.geometry.address(pfn) + 8,
                kernel.hstates,
                pfn << 12 | 0x63,
                table | 0x67,
            )
            return source.choice(pointers)
        return source.choice((0, (1 << 64) - 1, source.getrandbits(64), source.getrandbits(12)))


@cache
def kernel(name: str) -> CountedKernel:
    return CountedKernel(image(name) if name in IMAGES else real(name))


@pytest.fixture
def answer(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Callable[[CountedKernel], int]]:
    """Runs ``verify`` on a damaged kernel; gives the exit code."""
    options = command_line.parse(["verify"])

    def answer(damaged: CountedKernel) -> int:
        reports: list[Report] = []

        def verify(*_: object) -> Report:
            reports.append(damaged.check())
            return reports[-1]

        monkeypatch.setattr(examination, "verify", verify)
        code = command_line.execute(options, None)
        assert all(says_where(error) for report in reports for error in errors_of(report))
        out, err = capsys.readouterr()
        assert "\x1b" not in out + err
        assert out or len(err.splitlines()) == 1
        return code

    yield answer


CASES = [
    *((name, seed, IMAGE_CASES) for name in IMAGES for seed in range(3)),
    *((name, seed, REAL_CASES) for name in ("head-reuse", "shared-tail") for seed in range(3)),
]


@pytest.mark.long
@pytest.mark.parametrize(("name", "seed", "cases"), CASES)
def test_a_damaged_kernel_gets_an_answer(
    name: str,
    seed: int,
    cases: int,
    answer: Callable[[CountedKernel], int],
    record_property: Callable[[str, object], None],
) -> None:
    damaged = kernel(name)
    source = random.Random(f"{name} {seed}")
    answers: Counter[str] = Counter()
    for _ in range(cases):
        damaged.reset()
        damaged.damage(source)
        damaged.memory.count = 0
        code = answer(damaged)
        assert code in range(4)
        assert damaged.memory.count < READS_LIMIT
        answers[str(code)] += 1
    damaged.reset()
    record_property("answers", dict(answers))
