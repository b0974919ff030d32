# SPDX-License-Identifier: LGPL-2.1-or-later

"""
Incomplete is not broken: frames are taken out of the dumps of sound kernels, at random.

Each dump is given to the real commands, which find out anew what kernel it is of. Seeded, so that a
red run can be repeated: the seed of a dump is its kernel's name and its number.
"""

from __future__ import annotations

import json
import random
from collections import Counter, defaultdict
from typing import Any, Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drgn_vmemmap.cli import command_line
from drgn_vmemmap.cli.exit_codes import CANNOT, DONE, INCOMPLETE
from drgn_vmemmap.errors import MissingFacts
from drgn_vmemmap.extract.recorder import frames_of
from drgn_vmemmap.kernel.vmcoreinfo import REPORT_ONLY
from drgn_vmemmap.rules.finding import Severity
from tests.damage.edited import EditedKernel
from tests.damage.partial import PartialDump, chosen, partial
from tests.support import VMCORES, examples
from tests.synthetic.image import Image
from tests.synthetic.kernels import LINES
from tests.synthetic.model import Machine
from tests.synthetic.strategies import machines

DUMPS = examples(3)
"""Of each kernel: 600 are more than ten thousand in all; VMEMMAP_EXAMPLES=600 tries them."""

COMMANDS = (("report", "--format", "json", "--folios"), ("verify", "--format", "json"))

Answer = tuple[int, str, str]
"""Exit code, standard output, standard error."""
Command = Callable[..., Answer]


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs a command on a dump, whose VMCOREINFO may have more lines."""

    def run(dump: PartialDump, arguments: tuple[str, ...], *lines: tuple[str, str]) -> Answer:
        code = command_line.run(arguments, dump.program(*lines))
        return (code, *capsys.readouterr())

    return run


def facts(report: str) -> dict[str, Any]:
    """All that a report says, but for what an extract lacks on purpose."""
    known: dict[str, Any] = json.loads(report)
    known["findings"] = [
        finding
        for finding in known["findings"]
        if (finding["rule"], finding["severity"]) != ("unreadable", "info")
    ]
    return known


def accusations(report: str) -> list[str]:
    """What a report says is broken, or does not add up."""
    return [
        f"{finding['rule']}: {finding['message']}"
        for finding in json.loads(report)["findings"]
        if finding["severity"] != "info" and finding["rule"] != "unreadable"
    ]


def wrong_with(answer: Answer, complete: str) -> object:
    """
    What is wrong with an answer on a dump that lacks frames; nothing, if it is right.

    :param complete: The report of the complete dump.
    """
    code, report, message = answer
    if not report:
        is_refused = code in (CANNOT, INCOMPLETE) and len(message.splitlines()) == 1
        return None if is_refused and "internal error" not in message else message
    if code == DONE and facts(report) != facts(complete):
        return "it is said to be complete"
    return accusations(report) or (code if code not in (DONE, INCOMPLETE) else None)


@pytest.mark.long
@pytest.mark.parametrize("name", (*LINES, *(path.stem for path in VMCORES)))
def test_a_sound_kernel_is_not_accused_for_what_its_dump_lacks(
    name: str, command: Command, record_property: Callable[[str, object], None]
) -> None:
    dump = partial(name)
    dump.memory.missing.clear()
    complete = [command(dump, arguments) for arguments in COMMANDS]
    assert [code for code, *_ in complete] == [DONE, DONE]
    codes: Counter[str] = Counter()
    for number in range(DUMPS):
        seed = f"incomplete {name} {number}"
        dump.lose(random.Random(seed))
        for arguments, (_, report, _) in zip(COMMANDS, complete):
            answer = command(dump, arguments)
            wrong = wrong_with(answer, report)
            assert not wrong, (seed, arguments, wrong, sorted(dump.memory.missing)[:20])
            codes[str(answer[0])] += 1
    record_property("incomplete", dict(codes))


@pytest.mark.parametrize("name", ("6.1.0", "6.12.0", "7.2.0", "head-reuse", "two-nodes-1GiB"))
def test_folios_and_devices_that_no_section_shows_are_not_accused(
    name: str, command: Command
) -> None:
    dump = partial(name)
    for head in dump.heads[:4]:
        dump.memory.missing.clear()
        dump.memory.missing.update((dump.page_of_sections, head))
        code, report, _ = command(dump, COMMANDS[1])
        assert accusations(report) == []
        assert code == INCOMPLETE


@pytest.mark.long
@pytest.mark.parametrize("name", ("6.1.0", "6.12.0", "7.2.0"))
def test_a_dump_without_what_tails_hold_is_incomplete_unless_an_extract_left_it_out(
    name: str, command: Command
) -> None:
    dump = partial(name)
    dump.memory.missing.clear()
    verify = COMMANDS[1]
    assert command(dump, verify)[0] == DONE
    for frame in dump.only_verified[:20]:
        dump.memory.missing = {frame}
        code, report, _ = command(dump, verify)
        assert (code, accusations(report)) == (INCOMPLETE, [])
    dump.memory.missing = set(dump.only_verified)
    assert command(dump, COMMANDS[0])[0] == DONE
    for lines, severity in ((), "warning"), (((REPORT_ONLY, "1"),), "info"):
        report = command(dump, verify, *lines)[1]
        assert {
            finding["severity"]
            for finding in json.loads(report)["findings"]
            if "they were not compared" in finding["message"]
        } == {severity}


def test_a_wrong_answer_on_an_incomplete_dump_is_noticed(command: Command) -> None:
    dump = partial("6.12.0")
    dump.memory.missing.clear()
    _, complete, _ = command(dump, COMMANDS[1])
    less = json.loads(complete)
    less["totals"]["folios"] -= 1
    assert wrong_with((DONE, json.dumps(less), ""), complete)
    assert wrong_with((1, complete, ""), complete)
    assert wrong_with((CANNOT, "", "drgn-vmemmap: internal error, please report it: x"), complete)
    assert not wrong_with((DONE, complete, ""), complete)


@pytest.mark.long
@given(machines(), st.integers(0, 1 << 32))
def test_a_random_machine_is_not_accused_for_what_its_dump_lacks(
    machine: Machine, seed: int
) -> None:
    kernel = EditedKernel(Image(machine).prog)
    kinds: defaultdict[int, set[int]] = defaultdict(set)
    for address, size in kernel.memory.reads:
        kinds[size].update(frames_of(address, size))
    kernel.memory.missing = chosen([*map(sorted, kinds.values())], random.Random(seed))
    try:
        report = kernel.check()
    except MissingFacts:
        return
    known = [finding for finding in kernel.before.findings if finding.rule != "unreadable"]
    found = [finding for finding in report.findings if finding.rule != "unreadable"]
    assert [finding.message for finding in found if finding.severity is not Severity.INFO] == []
    assert report.incomplete or found == known
