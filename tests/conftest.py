# SPDX-License-Identifier: LGPL-2.1-or-later

from __future__ import annotations

import gc
import os
import signal
from collections import Counter
from pathlib import Path

import drgn
import pytest
from hypothesis import HealthCheck, Phase, settings
from tabulate import tabulate

from tests.support import BareDrgn, examples, vmemmap

# The same examples every time, so that a red run can be repeated; VMEMMAP_EXAMPLES tries more.
settings.register_profile("same", derandomize=True, deadline=None, max_examples=25, database=None)
settings.register_profile(
    "further",
    deadline=None,
    max_examples=examples(25),
    suppress_health_check=list(HealthCheck),
    phases=(Phase.generate,),
)
settings.load_profile("further" if "VMEMMAP_EXAMPLES" in os.environ else "same")

# A shell's job in the background ignores SIGINT and SIGQUIT, and one of nohup SIGHUP; so would all
# that the tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGQUIT, signal.SIG_DFL)
signal.signal(signal.SIGHUP, signal.SIG_DFL)


# What needs a network, root, QEMU or a browser runs only when it is named.
ONLY_WHEN_NAMED = [Path(__file__).parent / name for name in ("browser", "packaging", "vm")]


def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(drgn.Program, "set_linux_kernel_custom"):
        raise pytest.UsageError("the tests need drgn 0.3.0 or later: pip install '.[test]'")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    if collection_path not in ONLY_WHEN_NAMED:
        return None
    start = config.invocation_params.dir
    named = [(start / argument.partition("::")[0]).resolve() for argument in config.args]
    return not any(path.is_relative_to(collection_path) for path in named) or None


@pytest.hookimpl(trylast=True)
def pytest_collection_finish(session: pytest.Session) -> None:
    """Keep the garbage collector from going through all tests again and again."""
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bundle") / "drgn_vmemmap"
    assert vmemmap("bundle", path).returncode == 0
    return path


@pytest.fixture
def bare_drgn(tmp_path: Path) -> BareDrgn:
    return BareDrgn(tmp_path / "site")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What the catalogue of faults and other tables of cases showed, and what was left out."""
    found: dict[str, Counter[str]] = {}
    clean: Counter[str] = Counter()
    answers: Counter[str] = Counter()
    incomplete: Counter[str] = Counter()
    wordings: dict[str, set[str]] = {}
    forms: list[list[str]] = []
    for report in terminalreporter.stats.get("passed", ()):
        for name, value in report.user_properties:
            if name == "provoked":
                rule, layout, kind, possible = value
                found.setdefault(rule, Counter())[f"{layout}, {kind}"] += possible
            elif name == "clean":
                clean[value] += 1
            elif name == "answers":
                answers.update(value)
            elif name == "incomplete":
                incomplete.update(value)
            elif name == "wording":
                wordings.setdefault(value[0], set()).add(value[1])
            elif name == "form":
                forms.append([value[0], ", ".join(value[1])])
    if found:
        columns = sorted({column for counts in found.values() for column in counts})
        rows = [[rule, *(counts[column] for column in columns)] for rule, counts in found.items()]
        terminalreporter.write_line("faults provoked and found, by layout")
        terminalreporter.write_line(tabulate(rows, ["rule", *columns]))
    if clean:
        terminalreporter.write_line(f"sound kernels that are not accused, by layout: {dict(clean)}")
    if answers:
        terminalreporter.write_line(f"random damage, by exit code: {dict(answers)}")
    if incomplete:
        terminalreporter.write_line(
            f"sound kernels whose dumps lack frames, none accused, by exit code: {dict(incomplete)}"
        )
    if wordings:
        columns = sorted(set().union(*wordings.values()))
        rows = [
            [name, *("x" * (column in seen) for column in columns)]
            for name, seen in wordings.items()
        ]
        terminalreporter.write_line("messages whose pages are named, by the form of the log")
        terminalreporter.write_line(tabulate(rows, ["message", *columns]))
    if forms:
        terminalreporter.write_line("what is named in a complete log, by its form")
        terminalreporter.write_line(tabulate(forms, ["form", "named"]))
    if terminalreporter.config.option.markexpr == "not long":
        terminalreporter.write_line('the tests that take longest were left out: "make longtest"')
