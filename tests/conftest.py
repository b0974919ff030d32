# SPDX-License-Identifier: LGPL-2.1-or-later

from __future__ import annotations

import os

from hypothesis import HealthCheck, Phase, settings

# The same examples every time, so that a red run can be repeated; VMEMMAP_EXAMPLES looks further.
settings.register_profile("same", derandomize=True, deadline=None, max_examples=100, database=None)
settings.register_profile(
    "further",
    deadline=None,
    max_examples=int(os.environ.get("VMEMMAP_EXAMPLES", "1000")),
    suppress_health_check=list(HealthCheck),
    phases=(Phase.generate,),
)
settings.load_profile("further" if "VMEMMAP_EXAMPLES" in os.environ else "same")
