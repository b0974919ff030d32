# SPDX-License-Identifier: LGPL-2.1-or-later

from __future__ import annotations

import pytest

from tests.support import vmcore, vmemmap


@pytest.fixture(scope="session")
def shown() -> str:
    """What the command shows of the recorded vmcore head-reuse."""
    done = vmemmap("-c", vmcore("head-reuse"))
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout
