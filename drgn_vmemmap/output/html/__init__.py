# SPDX-License-Identifier: LGPL-2.1-or-later

"""
The report as one page for a browser: summary, findings, map, drawings, folios.

The page needs nothing but itself. What stands in its templates is trusted; what
comes from the dump is text, and escaped wherever it stands. Without JavaScript
it shows all but what only a script can do.
"""

from __future__ import annotations

import base64
import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from drgn_vmemmap import __version__
from drgn_vmemmap.analysis.report import Report
from drgn_vmemmap.analysis.samples import Sample
from drgn_vmemmap.errors import CannotAnalyse
from drgn_vmemmap.output import View
from drgn_vmemmap.output.html.drawing import Drawing, draw
from drgn_vmemmap.output.html.folios import Folios
from drgn_vmemmap.output.html.map import COLUMNS, UNIT, draw_map
from drgn_vmemmap.output.table import size
from drgn_vmemmap.paging.x86_64 import PAGE_SIZE
from drgn_vmemmap.rules.folio import MEANINGS, Finding, Severity

try:
    from jinja2 import Environment, PackageLoader, StrictUndefined
except ImportError as error:
    raise CannotAnalyse("html needs Jinja2: pip install jinja2 (Debian: python3-jinja2)") from error

_ROWS = 500
"""Folios in the table of a page whose script does not run."""

_FINDINGS = 100
"""Findings of one rule that are told one by one."""


class Broken(NamedTuple):
    """A rule that does not hold."""

    rule: str
    severity: Severity
    meaning: str
    """What that would do to a running kernel."""
    times: int
    findings: list[Finding]
    """The first ones."""


def render(report: Report, view: View) -> str:
    """
    All folios are listed, and findings have their details; there is room.

    :return: A whole HTML document.
    """
    environment = _environment()
    style, script = (_source(environment, name) for name in ("page.css", "page.js"))
    folios = Folios(report.folios, report.findings)
    return environment.get_template("page.html").render(
        version=__version__,
        style=style,
        script=script,
        hash=_hash,
        report=report,
        folios=folios,
        rows=list(folios.rows(_ROWS)),
        map=draw_map(folios, report.others),
        columns=COLUMNS,
        drawings=_drawings(view.samples, report.findings),
        sharing=Counter(folios.reuse_frames),
        broken=_broken(report.findings),
        data={
            **folios.packed(),
            "unit": UNIT,
            "columns": COLUMNS,
            "others": [[other.kind, other.pfns.start, other.pfns.stop] for other in report.others],
        },
    )


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader(__name__),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(hex=hex, size=size)
    environment.globals["page_size"] = PAGE_SIZE
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":")}
    return environment


def _source(environment: Environment, name: str) -> str:
    """The text of a template that is not to be rendered."""
    assert environment.loader is not None
    return environment.loader.get_source(environment, name)[0]


def _hash(text: str) -> str:
    """By which the page's security policy knows its own style and script."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _drawings(samples: Sequence[Sample], findings: Iterable[Finding]) -> list[Drawing]:
    wrong: dict[int | None, set[int]] = {example.report.folio.pfn: set() for example in samples}
    for finding in findings:
        if finding.folio in wrong and finding.index is not None:
            wrong[finding.folio].add(finding.index)
    return [draw(example, wrong[example.report.folio.pfn]) for example in samples]


def _broken(findings: Iterable[Finding]) -> list[Broken]:
    """Findings by severity and rule, the worst first."""
    found: dict[tuple[Severity, str], list[Finding]] = {}
    for finding in findings:
        found.setdefault((finding.severity, finding.rule), []).append(finding)
    worst = list(Severity)
    return [
        Broken(rule, severity, MEANINGS[rule], len(alike), alike[:_FINDINGS])
        for (severity, rule), alike in sorted(found.items(), key=lambda i: worst.index(i[0][0]))
    ]
