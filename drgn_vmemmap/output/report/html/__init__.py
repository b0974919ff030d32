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
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from pkgutil import get_data
from typing import TYPE_CHECKING, NamedTuple

from drgn_vmemmap import __version__
from drgn_vmemmap.analysis.listing import Listing
from drgn_vmemmap.analysis.report import Report
from drgn_vmemmap.analysis.samples import Sample
from drgn_vmemmap.errors import CannotAnalyse
from drgn_vmemmap.output.findings import Conclusion, by_rule, conclusion
from drgn_vmemmap.output.head import (
    hvo_state,
    named_kernel,
    named_origin,
    not_recognised,
    selected,
)
from drgn_vmemmap.output.report import View
from drgn_vmemmap.output.report.html.drawing import Drawing, draw
from drgn_vmemmap.output.report.html.folios import SHOWN, findings_of, packed, rows, worst_of
from drgn_vmemmap.output.report.html.map import COLUMNS, draw_map, map_data
from drgn_vmemmap.output.text import node_name, plural, shown_verdicts, size
from drgn_vmemmap.rules.finding import Finding, Severity
from drgn_vmemmap.rules.rule import RULES
from drgn_vmemmap.vmemmap.special import ABOUT

if TYPE_CHECKING:
    from jinja2 import Environment

_ROWS = 500
"""Folios in the table of a page whose script does not run."""

_FINDINGS = 100
"""Findings of one rule that are listed one by one."""


class Broken(NamedTuple):
    """A rule that does not hold."""

    rule: str
    severity: Severity
    meaning: str
    """What a finding does to a running kernel."""
    times: int
    findings: list[Finding]
    """The first ones."""


def render(report: Report, view: View) -> Iterator[str]:
    """
    All folios are listed, and findings have their details.

    :return: An HTML document.
    """
    environment = _environment(report.kernel.geometry.page_size)
    style, script = (_source(environment, name) for name in ("page.css", "page.js"))
    folios = Listing(report.kernel, report.folios)
    found = findings_of(folios, report.findings)
    yield environment.get_template("page.html").render(
        version=__version__,
        style=style,
        script=script,
        hash=_hash,
        report=report,
        folios=folios,
        rows=list(rows(folios, found, _ROWS)),
        map=draw_map(report, folios),
        columns=COLUMNS,
        drawings=_drawings(view.samples, report.findings),
        sharing=Counter(report.folios.reuse_frames),
        conclusion=_conclusion(report),
        verdicts=shown_verdicts([report.totals.counts]),
        node_name=node_name,
        plural=plural,
        special_kinds=ABOUT,
        origin=named_origin(report.origin),
        named_kernel=named_kernel(report.kernel),
        hvo_state=hvo_state(report.kernel),
        not_recognised=list(not_recognised(report.kernel)),
        selected=selected(report.selection),
        headers=[(column.name, column.heading) for column in SHOWN],
        numbers=[column.name for column in SHOWN if column.is_number],
        broken=_broken(report.findings),
        data={
            **packed(folios, found, worst_of(folios, report.findings)),
            **map_data(report, folios),
        },
    )


def _template(name: str) -> str | None:
    # Unlike a PackageLoader, this finds them in a bundle that is run by a relative path.
    data = get_data(__name__, f"templates/{name}")
    return None if data is None else data.decode()


def _conclusion(report: Report) -> Conclusion:
    """The conclusion that is shown beside the title."""
    concluded = conclusion(report)
    if concluded.kind == "sound" and not report.verified:
        return Conclusion("unverified", "not verified: 'verify' checks all rules")
    return concluded


@cache
def _environment(page_size: int) -> Environment:
    try:
        from jinja2 import Environment, FunctionLoader, StrictUndefined
    except ImportError as error:
        message = "html needs Jinja2: pip install jinja2 (Debian: python3-jinja2)"
        raise CannotAnalyse(message) from error
    environment = Environment(
        loader=FunctionLoader(_template),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(hex=hex, size=size)
    environment.globals["page_size"] = page_size
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":")}
    return environment


def _source(environment: Environment, name: str) -> str:
    """The text of a template that is not to be rendered."""
    assert environment.loader is not None
    return environment.loader.get_source(environment, name)[0]


def _hash(text: str) -> str:
    """The hash by which the page's security policy admits its own style and script."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _drawings(samples: Sequence[Sample], findings: Iterable[Finding]) -> list[Drawing]:
    wrong: dict[int | None, set[int]] = {sample.report.folio.pfn: set() for sample in samples}
    for finding in findings:
        if finding.folio in wrong and finding.index is not None:
            wrong[finding.folio].add(finding.index)
    return [draw(sample, wrong[sample.report.folio.pfn]) for sample in samples]


def _broken(findings: Iterable[Finding]) -> list[Broken]:
    """Findings by severity and rule, the worst first."""
    return [
        Broken(rule, severity, RULES[rule].meaning, len(found), found[:_FINDINGS])
        for severity, rule, found in by_rule(findings)
    ]
