# SPDX-License-Identifier: LGPL-2.1-or-later

"""Imports point one way, lazy ones included; the oracles know nothing of what they judge."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path

import pytest

from tests import support
from tests.support import ROOT

PACKAGE = "drgn_vmemmap"

LAYERS = (
    ("requirements",),
    (PACKAGE,),
    ("errors", "files", "progress", "ranges", "words"),
    ("target",),
    ("paging",),
    ("kernel",),
    ("vmemmap",),
    ("hugetlb",),
    ("hvo",),
    ("rules",),
    ("analysis",),
    ("api",),
    ("explain.error_code", "explain.regions", "explain.struct_page"),
    ("explain.text", "explain.messages"),
    ("explain.log",),
    ("explain.dump", "explain.text_only"),
    ("explain", "extract"),
    ("bundle", "helpers"),
    ("output",),
    ("cli",),
    ("plugin", "__main__"),
)
"""Modules and packages in the order of the flow; each may import those above it."""

RECORDS = {
    *("Folio", "FolioReport", "Judgement", "Kernel", "Layout", "Ranges", "State", "Verdict"),
    "ZoneKey",
}
"""What the oracles share with the package: the form of an answer, and the kernel's facts."""


def modules(directory: str, root: Path = ROOT) -> dict[str, Path]:
    """The modules in a directory, by their dotted names, which begin below the root."""
    return {
        ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__"): path
        for path in sorted((root / directory).rglob("*.py"))
    }


MODULES = modules(PACKAGE, support.PACKAGE.parent)


LONG = {"paging.walker"}
"""Files of more lines than a file should have: a table, and a class."""


@cache
def imported(path: Path) -> Sequence[tuple[str, str]]:
    """
    What a module imports of the package, wherever in it, but for type checkers.

    :return: Modules, and the name that is imported from each, which is empty for the module.
    """
    return tuple(_imported(path))


def _imported(path: Path) -> Iterator[tuple[str, str]]:
    for node in _run(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names if _is_ours(alias.name))
        elif isinstance(node, ast.ImportFrom):
            assert node.module and not node.level, f"{path}: a relative import"
            for alias in node.names if _is_ours(node.module) else ():
                module = f"{node.module}.{alias.name}"
                yield (module, "") if module in MODULES else (node.module, alias.name)


def _is_ours(module: str) -> bool:
    return module.split(".")[0] == PACKAGE


def _run(node: ast.AST) -> Iterator[ast.AST]:
    """The nodes of a tree that are run: all but ``if TYPE_CHECKING:``."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        yield child
        yield from _run(child)


@cache
def graph() -> Mapping[str, set[str]]:
    """What each module imports of the package."""
    return {
        module.removeprefix(f"{PACKAGE}."): {
            other.removeprefix(f"{PACKAGE}.") for other, _ in imported(path)
        }
        for module, path in MODULES.items()
    }


def layer(module: str) -> int:
    """The number of a module's layer, from the bottom."""
    path = f"{module}."
    return next(
        number
        for number, names in enumerate(LAYERS)
        if any(path.startswith(f"{name}.") for name in names)
    )


def test_each_module_has_its_layer() -> None:
    assert all(layer(module) >= 0 for module in graph())


def test_imports_point_one_way() -> None:
    upward = {
        (module, other)
        for module, others in graph().items()
        for other in others
        if layer(other) > layer(module)
    }
    assert upward == set()


def test_no_module_imports_itself_by_way_of_others() -> None:
    left = dict(graph())
    while leaves := {module for module, others in left.items() if not others & left.keys()}:
        for module in leaves:
            del left[module]
    circular = {module: others & left.keys() for module, others in left.items()}
    assert circular == {}


def test_files_are_short() -> None:
    long = {
        module.removeprefix(f"{PACKAGE}.")
        for module, path in MODULES.items()
        if len(path.read_text().splitlines()) > 350
    }
    assert long <= LONG, "this file has two ideas: cut it"


def test_no_bit_of_an_entry_is_tested_outside_paging() -> None:
    bits = {"PRESENT", "WRITABLE", "USER", "LARGE", "GLOBAL", "ACCESSED", "DIRTY", "NO_EXECUTE"}
    outside = {
        (module, bit)
        for module, path in MODULES.items()
        if not module.startswith(f"{PACKAGE}.paging.")
        for bit in bits
        if (f"{PACKAGE}.paging.x86_64", bit) in imported(path)
        or f"x86_64.{bit}" in path.read_text()
    }
    assert outside == set()


@pytest.mark.long
def test_modules_are_imported_from_where_they_are() -> None:
    # The package's own names are for its users: within it, they would hide a way upward.
    names = {
        name for path in MODULES.values() for module, name in imported(path) if module == PACKAGE
    }
    assert names <= {"__version__"}


@pytest.mark.parametrize("path", modules("tests/oracles").values(), ids=lambda path: path.stem)
def test_an_oracle_shares_records_with_the_package_and_nothing_that_decides(path: Path) -> None:
    assert {name for _, name in imported(path)} <= RECORDS
