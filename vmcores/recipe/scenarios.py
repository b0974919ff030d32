# SPDX-License-Identifier: LGPL-2.1-or-later
"""The scenarios, as data: what to give a guest, and which script of guest/ it runs."""

from __future__ import annotations

from dataclasses import dataclass, replace

from vmcores.recipe.errors import RecipeError
from vmcores.recipe.programs import Programs

HVO = "hugetlb_free_vmemmap=on"


@dataclass(frozen=True)
class Scenario:
    """One way to set up a guest and its pools of HugeTLB folios."""

    name: str
    about: str  #: one line, for people
    script: str = "basic.sh"  #: in guest/
    memory: int = 2048  #: MiB
    command_line: str = HVO  #: of the kernel, beyond what every guest gets
    qemu: tuple[str, ...] = ()  #: further arguments
    modules: tuple[str, ...] = ()
    programs: Programs | None = None
    deadline: float = 180  #: seconds from the start to the guest's last word


BASIC = Scenario(
    "basic", "64 optimized folios of 2 MiB and 8 whole ones, 10 in use; 5-level paging"
)

_ALL = (
    BASIC,
    replace(
        BASIC,
        name="basic-4level",
        about="the same with 4-level paging",
        command_line=f"{HVO} no5lvl",
    ),
)

SCENARIOS: dict[str, Scenario] = {scenario.name: scenario for scenario in _ALL}


def named(name: str) -> Scenario:
    """Return a scenario by its name; RecipeError names the ones there are."""
    if name not in SCENARIOS:
        raise RecipeError(f"no scenario {name}; there are: {', '.join(SCENARIOS)}")
    return SCENARIOS[name]
