# SPDX-License-Identifier: LGPL-2.1-or-later

"""What is watched: a line a hstate for a person, or as JSON Lines."""

from __future__ import annotations

import json
import time

from drgn_vmemmap.analysis.report import Movement
from drgn_vmemmap.analysis.watch import Look
from drgn_vmemmap.output.table import plural, size
from drgn_vmemmap.rules.folio import Severity

HEADING = (
    f"{'time':8}  {'hstate':20}  {'folios':>14}  {'optimized':>14}  {'freed frames':>16}  "
    f"{'saved':>10}  {'moved':>6}  {'transient':>9}  {'findings':>8}\n"
)


def table(look: Look) -> str:
    """A line a hstate."""
    movement = look.report.movement or Movement(0.0, 1, 0, 0)
    clock = time.strftime("%H:%M:%S", time.localtime(look.time))
    return "".join(
        f"{clock}  {name:20}  {_number(counts.folios, look.changed[name].folios):>14}  "
        f"{_number(counts.optimized, look.changed[name].optimized):>14}  "
        f"{_number(counts.freed, look.changed[name].freed):>16}  {size(counts.saved):>10}  "
        f"{movement.moved:>6}  {movement.transient:>9}  {findings(look):>8}\n"
        for name, counts in look.counted.items()
    )


def jsonl(look: Look) -> str:
    """A JSON object a hstate."""
    movement = look.report.movement or Movement(0.0, 1, 0, 0)
    return "".join(
        json.dumps(
            {
                "time": round(look.time, 3),
                "hstate": name,
                **counts._asdict(),
                "saved_bytes": counts.saved,
                "changed": look.changed[name]._asdict(),
                **movement._asdict(),
                "findings": findings(look),
            }
        )
        + "\n"
        for name, counts in look.counted.items()
    )


def summary(looks: int, moved: int, transient: int, found: int) -> str:
    """
    :param moved: Folios that moved, added up over all looks.
    """
    return (
        f"{plural(looks, 'look')}: {plural(moved, 'folio')} moved, "
        f"{plural(transient, 'transient finding')}, {plural(found, 'finding')}\n"
    )


def findings(look: Look) -> int:
    """Findings of severity warning or error."""
    return sum(finding.severity is not Severity.INFO for finding in look.report.findings)


def _number(now: int, change: int) -> str:
    return f"{now} ({change:+})" if change else str(now)
