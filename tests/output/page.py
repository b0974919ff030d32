# SPDX-License-Identifier: LGPL-2.1-or-later

"""The HTML report, parsed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Any

from tests.support import vmcore

VMCORE = vmcore("two-nodes-1GiB")
VOID = {"meta", "input", "br"}


@dataclass
class Element:
    """An element of a page."""

    tag: str
    attributes: dict[str, str]
    content: list[str | Element] = field(default_factory=list, repr=False)

    def all(self, tag: str = "", class_: str = "", **attributes: str) -> Iterator[Element]:
        """Elements within this one, in order."""
        for child in self.children:
            if (
                tag in ("", child.tag)
                and (not class_ or class_ in child.attributes.get("class", "").split())
                and attributes.items() <= child.attributes.items()
            ):
                yield child
            yield from child.all(tag, class_, **attributes)

    def one(self, tag: str = "", class_: str = "", **attributes: str) -> Element:
        (found,) = self.all(tag, class_, **attributes)
        return found

    @property
    def children(self) -> list[Element]:
        return [part for part in self.content if isinstance(part, Element)]

    @property
    def source(self) -> str:
        """Its text as it stands."""
        return "".join(part if isinstance(part, str) else part.source for part in self.content)

    @property
    def text(self) -> str:
        """Its text as it is read."""
        return " ".join(self.source.split())


class Parser(HTMLParser):
    """Builds the elements of a page, and sees that each is closed where it should be."""

    def __init__(self) -> None:
        super().__init__()
        self.root = Element("", {})
        self.open = [self.root]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names)), (tag, attrs)
        element = Element(tag, {name: value or "" for name, value in attrs})
        self.open[-1].content.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop().tag == tag

    def handle_data(self, data: str) -> None:
        self.open[-1].content.append(data)


def parsed(text: str) -> Element:
    parser = Parser()
    parser.feed(text)
    parser.close()
    assert parser.open == [parser.root]
    return parser.root


def cells_of(row: Element) -> list[str]:
    return [cell.text for cell in row.children]


def data_of(page: Element) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(page.one("script", id="data").source)
    return data


def unpacked(steps: list[int]) -> list[int]:
    value, column = 0, []
    for step, times in zip(steps[::2], steps[1::2]):
        for _ in range(times):
            value += step
            column.append(value)
    return column
