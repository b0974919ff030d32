# SPDX-License-Identifier: LGPL-2.1-or-later

"""The difference of two reports as text, and as JSON."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping

from drgn_vmemmap.analysis.difference import Change, Difference, Pair
from drgn_vmemmap.errors import printable
from drgn_vmemmap.output.text import plural, text_table

# Characters of a value that are shown; a document may be made up.
_VALUE_LIMIT = 60


def render(difference: Difference, format_name: str) -> Iterator[str]:
    """
    :param format_name: ``table`` or ``json``.
    """
    if format_name == "json":
        yield _json(difference)
        return
    for number, paragraph in enumerate(_paragraphs(difference)):
        yield "\n" if number else ""
        yield f"{paragraph}\n"


def _json(difference: Difference) -> str:
    document = {
        "differs": difference.differs,
        "complete": difference.complete,
        "kernels": difference.kernels,
        "same_kernel": difference.same_kernel,
        "hosts": difference.hosts,
        "two_boots": difference.two_boots,
        "incomplete": difference.incomplete,
        "outside": difference.outside,
        "unknown": difference.unknown,
        "totals": _pairs(difference.totals),
        "hstates": {name: _pairs(counts) for name, counts in difference.hstates.items()},
        "rules": _pairs(difference.rules),
        "unknown_rules": difference.unknown_rules,
        "changes": [change._asdict() for change in difference.changes],
    }
    return json.dumps(document, indent=1) + "\n"


def _pairs(numbers: Mapping[str, Pair]) -> dict[str, dict[str, int]]:
    return {name: {"before": pair[0], "after": pair[1]} for name, pair in numbers.items()}


def _paragraphs(difference: Difference) -> Iterator[str]:
    if not difference.same_kernel:
        one, other = map(printable, difference.kernels)
        yield f"two kernels, {one} and {other}: savings and rules are compared, not PFNs"
    elif all(difference.hosts) and len(set(difference.hosts)) > 1:
        one, other = map(printable, difference.hosts)
        yield f"two hosts, {one} and {other}: differences are not changes within one boot"
    elif difference.two_boots:
        yield "two boots of one kernel: differences are not changes within one boot"
    if difference.changes:
        yield "\n".join(map(_line, difference.changes))
    for heading, numbers in _numbers(difference):
        rows = [
            (printable(name), before, after, f"{after - before:+}")
            for name, (before, after) in numbers.items()
            if before != after
        ]
        if rows:
            yield text_table((heading, "before", "after", ""), rows)
    yield "\n".join(_summary(difference))


def _numbers(difference: Difference) -> Iterator[tuple[str, Mapping[str, Pair]]]:
    for name, counts in difference.hstates.items():
        yield printable(name), counts
    yield "total", difference.totals
    yield "findings of", difference.rules


def _summary(difference: Difference) -> Iterator[str]:
    """How many folios changed, and what is not known."""
    counts = Counter(change.kind for change in difference.changes)
    if counts:
        yield ", ".join(f"{count:,} {kind}" for kind, count in counts.items())
    elif difference.differs:
        yield "no folio differs" if difference.same_kernel else "the reports differ"
    elif difference.complete:
        yield "no difference"
    else:
        yield "no difference is known"
    yield from _gaps(difference)


def _gaps(difference: Difference) -> Iterator[str]:
    """Lines on what could not be compared, and why."""
    which = [name for name, is_one in zip(("A", "B"), difference.incomplete) if is_one]
    if which:
        reason = f"{' and '.join(which)} {'is' if len(which) == 1 else 'are'} incomplete"
        unknown = (
            plural(len(difference.unknown), "folio") if difference.unknown else "what is missing"
        )
        yield f"{reason}: {unknown} cannot be compared, nor can totals and rules"
    elif difference.unknown:
        yield f"{plural(len(difference.unknown), 'folio')} cannot be compared"
    for count, name, other in zip(difference.outside, ("A", "B"), ("B", "A")):
        if count:
            yield f"{other} is narrowed: {plural(count, 'folio')} of {name} cannot be compared"
    if difference.unknown_rules:
        names = ", ".join(map(printable, difference.unknown_rules))
        yield f"not checked by both reports in full, and not compared: {names}"
    if not which and any(difference.outside) and not difference.totals:
        yield "totals and rules are not compared"


def _line(change: Change) -> str:
    folio = change.after or change.before or {}
    about = f"{folio.get('hstate')}, {folio.get('state')}, {folio.get('verdict')}"
    if change.before is not None and change.after is not None:
        about = ", ".join(
            f"{name} {_value(name, change.before.get(name))} -> "
            f"{_value(name, change.after.get(name))}"
            for name in change.fields
        )
    return printable(f"{change.kind}: folio {change.pfn:#x}: {about}")


def _value(name: str, value: object) -> str:
    if value in (None, ""):
        return "none"
    if name == "reuse_frame" and isinstance(value, int):
        return hex(value)
    text = str(value)
    return text if len(text) <= _VALUE_LIMIT else f"{text[:_VALUE_LIMIT]}..."
