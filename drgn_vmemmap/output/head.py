# SPDX-License-Identifier: LGPL-2.1-or-later

"""The head of a report: which dump, which kernel, and the state of HVO."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Iterator

from drgn_vmemmap.analysis.report import EVERYTHING, Report, Selection
from drgn_vmemmap.kernel.facts import Kernel
from drgn_vmemmap.kernel.origin import Origin
from drgn_vmemmap.rules.unchecked import RESTS_ON


def head(report: Report, width: int) -> Iterator[str]:
    """
    The dump, the kernel, and what HVO does there.

    :param width: Of a line, in columns.
    """
    kernel = report.kernel
    named = named_origin(report.origin)
    if named:
        yield named
    yield named_kernel(kernel)
    yield hvo_state(kernel)
    if report.selection != EVERYTHING:
        yield f"only folios {selected(report.selection)}"
    for part in not_recognised(kernel):
        line = f"not recognised: {part}"
        yield textwrap.fill(line, width, subsequent_indent="  ", break_on_hyphens=False)


def named_origin(origin: Origin) -> str:
    """Which dump of which machine it is, as far as that is known."""
    parts = [] if origin.file is None else [_path(origin.file)]
    if origin.host is not None:
        parts.append(f"host {origin.host}")
    if origin.crash_time is not None:
        parts.append(f"crashed {origin.crash_time:%Y-%m-%d %H:%M:%S} UTC")
    return ", ".join(parts)


def named_kernel(kernel: Kernel) -> str:
    """The kernel's release, how its memory was read, and where its types are from."""
    return (
        f"Linux {kernel.release}, {_seen(kernel)}, "
        f"{kernel.paging.levels}-level paging, types from {kernel.types_from.upper()}"
    )


def _seen(kernel: Kernel) -> str:
    if kernel.live:
        return "live"
    return "dump" if kernel.confirmed is None else "written while it ran"


def hvo_state(kernel: Kernel) -> str:
    """The state of HVO, and whether new folios are optimized, in one line."""
    if not kernel.hvo.built_in:
        return "HVO is not built in"
    return (
        f"HVO layout {kernel.hvo.layout.value}; "
        + {
            True: "switched on: new folios are optimized",
            False: "switched off now: new folios are not optimized",
            None: "whether new folios are optimized is not known",
        }[kernel.hvo.enabled]
    )


def not_recognised(kernel: Kernel) -> Iterator[str]:
    """Each part of the kernel that was not recognised, and the rules that rest on it."""
    for unrecognised in kernel.unrecognised:
        rules = ", ".join(rule.name for rule in RESTS_ON[unrecognised.part])
        yield f"{unrecognised.message}; not checked in full: {rules}"


def selected(selection: Selection) -> str:
    """Which folios a selection has, in words; empty if it has all."""
    words = (
        None if selection.hstate is None else f"of {selection.hstate}",
        None if selection.node is None else f"on node {selection.node}",
        None if selection.pfn is None else f"with PFN {selection.pfn:#x}",
        None if selection.verdict is None else f"that are {selection.verdict}",
    )
    return ", ".join(filter(None, words))


def _path(path: str) -> str:
    """A path as it is named from the current directory, if it is below it."""
    try:
        directory = os.getcwd().rstrip("/") + "/"
    except OSError:
        return path  # the current directory was removed
    return path.removeprefix(directory)
