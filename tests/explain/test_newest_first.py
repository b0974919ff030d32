# SPDX-License-Identifier: LGPL-2.1-or-later

"""Whether a log's newest line is its first one: what its times say, and what becomes of it."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from drgn_vmemmap.explain.text.newest_first import oldest_first


def log(times: Iterable[float]) -> list[str]:
    return [f"[{time:12.6f}] line {number}" for number, time in enumerate(times)]


@pytest.mark.parametrize(
    ("times", "descends"),
    (
        ((4, 3, 2, 1), True),
        ((3, 2, 1), False),
        ((1, 2, 3, 4), False),
        ((1, 1, 1, 1), False),
        ((4, 4, 3, 3, 2, 2, 1), True),
        # Nine of ten are enough, and fewer are not.
        ((*range(10, 0, -1), 5), True),
        ((*range(9, 0, -1), 5), False),
        ((2, 1, 2, 1, 2, 1, 2, 1), False),
        # As text, 9 would be after 11.
        ((11, 10, 9, 8.5), True),
        ((8.5, 9, 10, 11), False),
    ),
)
def test_a_log_is_turned_round_if_nearly_all_of_its_times_descend(
    times: Iterable[float], descends: bool
) -> None:
    by_logger = [f"{int(t):02}:{int(t * 60) % 60:02}:00 line {n}" for n, t in enumerate(times)]
    for lines in (log(times), by_logger):
        expected = lines[::-1] if descends else lines
        assert oldest_first("\n".join(lines)).split("\n") == expected


@pytest.mark.parametrize(("others", "descends"), ((4, True), (5, False)))
def test_half_of_the_lines_of_a_log_that_is_turned_round_have_times(
    others: int, descends: bool
) -> None:
    first = [*["no time"] * others, "", " ", ""]
    lines = log(range(4, 0, -1))
    turned = oldest_first("\n".join((*first, *lines))).split("\n")
    assert turned == [*first, *(lines[::-1] if descends else lines)]


def test_lines_without_a_time_stay_below_the_one_that_they_follow() -> None:
    text = "header\n[4.000000] d\n below d\n[3.000000] c\n[2.000000] b\n below b\n[1.000000] a\n\n"
    assert oldest_first(text) == (
        "header\n[1.000000] a\n[2.000000] b\n below b\n[3.000000] c\n[4.000000] d\n below d"
    )


def test_the_beginning_of_a_log_shows_how_its_lines_are_ordered() -> None:
    newest_first = log(range(2000, 0, -1))
    lines = [*newest_first, *log(range(2000))]
    assert oldest_first("\n".join(lines)).split("\n") == lines[::-1]


def test_a_kernels_times_decide_before_a_loggers() -> None:
    """Each day's log is in order, and the newest day is the first one."""
    lines = [
        f"2026-11-{26 - day} 15:32:0{9 - day} host kernel: [{n + 1000 * day:5}.000000] line {n}"
        for day in range(8)
        for n in range(3)
    ]
    assert oldest_first("\n".join(lines)).split("\n") == lines
