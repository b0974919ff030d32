# SPDX-License-Identifier: LGPL-2.1-or-later

"""The reports that tests of several formats share."""

from __future__ import annotations

import pytest

from drgn_vmemmap import verify
from drgn_vmemmap.analysis.report import Report
from tests.output.maps import machine
from tests.output.page import Element, parsed
from tests.synthetic import pages
from tests.synthetic.image import Image


@pytest.fixture(scope="module")
def damaged() -> Image:
    return pages.damaged("7.2.0")


@pytest.fixture(scope="module")
def page(damaged: Image) -> Element:
    return parsed(pages.page_of(damaged.prog))


@pytest.fixture(scope="module")
def report() -> Report:
    return verify(Image(machine()).prog)
