# SPDX-License-Identifier: LGPL-2.1-or-later

"""Passes over a live kernel: one line per hstate for a person, or JSON Lines."""

from __future__ import annotations

import json
import time

from drgn_vmemmap.analysis.document import stability_document
from drgn_vmemmap.analysis.report import Stability
from drgn_vmemmap.analysis.watch import Counted, Pass, Tally
from drgn_vmemmap.output.text import plural, size
from drgn_vmemmap.rules.finding import Severity

HEADING = (
    f"{'time':8}  {'hstate':9}  {'folios':>13}  {'optimized':>13}  {'saved':>10}  {'moved':>6}  "
    f"{'findings':>8}\n"
)


def table(pass_: Pass) -> str:
    """
    One line per hstate, of less than 80 characters.

    What is counted of the whole pass, and not by hstate, is in the first one.
    """
    clock = time.strftime("%H:%M:%S", time.localtime(pass_.time))
    of_pass = f"  {_stability(pass_).moved:>6}  {findings(pass_):>8}"
    return "".join(
        f"{clock}  {name.removeprefix('hugepages-'):9}  "
        f"{_number(counts.folios, pass_.changed[name].folios):>13}  "
        f"{_number(counts.optimized, pass_.changed[name].optimized):>13}  "
        f"{size(_saved(pass_, counts)):>10}{'' if number else of_pass}\n"
        for number, (name, counts) in enumerate(pass_.counted.items())
    )


def jsonl(pass_: Pass) -> str:
    """One JSON object per hstate."""
    stability = _stability(pass_)
    return "".join(
        json.dumps(
            {
                "time": round(pass_.time, 3),
                "hstate": name,
                **counts._asdict(),
                "saved_bytes": _saved(pass_, counts),
                "changed": pass_.changed[name]._asdict(),
                **stability_document(stability),
                "findings": findings(pass_),
                "broken": broken(pass_),
                "incomplete": pass_.report.incomplete,
            }
        )
        + "\n"
        for name, counts in pass_.counted.items()
    )


def summary(tally: Tally) -> str:
    """One line about all passes."""
    return (
        f"{plural(tally.passes, 'pass', 'passes')}: {plural(tally.moved, 'folio')} moved, "
        f"{plural(tally.transient, 'transient finding')}, {plural(tally.findings, 'finding')}"
    )


def findings(pass_: Pass) -> int:
    """Findings of severity warning or error."""
    return sum(finding.severity is not Severity.INFO for finding in pass_.report.findings)


def broken(pass_: Pass) -> list[str]:
    """The rules that are broken, each once."""
    errors = (f.rule for f in pass_.report.findings if f.severity is Severity.ERROR)
    return [*dict.fromkeys(errors)]


def _stability(pass_: Pass) -> Stability:
    """How much the kernel changed while the pass was confirmed."""
    return pass_.report.stability or Stability(seconds=0.0, passes=1, moved=0, transient=0)


def _saved(pass_: Pass, counts: Counted) -> int:
    """Bytes that the freed frames had."""
    return counts.freed * pass_.report.kernel.geometry.page_size


def _number(now: int, change: int) -> str:
    return f"{now} ({change:+})" if change else str(now)
