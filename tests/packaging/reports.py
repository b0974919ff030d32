# SPDX-License-Identifier: LGPL-2.1-or-later

"""Reports of recorded vmcores, without what depends on where and with what they were made."""

from __future__ import annotations

import json
import re
from typing import Any

from tests.support import VMCORES, recorded

RECORDED = {vmcore.stem: recorded(vmcore.stem) for vmcore in VMCORES}
"""The recorded reports by vmcore, as they were when the tests began."""


def is_recorded(text: str, vmcore: str) -> bool:
    """
    Whether a report is the one that is recorded beside a vmcore.

    :param text: The report in JSON.
    :param vmcore: The vmcore's name.
    """
    return comparable(json.loads(text)) == comparable(RECORDED[vmcore])


def comparable(report: dict[str, Any]) -> dict[str, Any]:
    """A report without the tool's version and the path of the dump, which a drgn may not know."""
    return {**report, "tool": None, "target": {**report["target"], "file": None}}


def without_path(text: str) -> str:
    """The text of a report in JSON without the path of the dump."""
    return re.sub(r'("file": )(?:null|"[^"]*")', r"\1null", text, count=1)
