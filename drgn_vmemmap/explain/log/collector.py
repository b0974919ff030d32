# SPDX-License-Identifier: LGPL-2.1-or-later

"""Collects the mentions in a log: each fault, page and address once in a boot."""

from __future__ import annotations

from drgn_vmemmap.explain.log.boot import Boot
from drgn_vmemmap.explain.log.mention import Mention, Mentions
from drgn_vmemmap.explain.messages.message import Kind, Message

MENTIONS_LIMIT = 4096
"""The most faults and pages that are kept, and other addresses; the rest is counted."""

_Key = tuple[int, Kind, int]
"""A boot, by its number, and what is named."""


class Collector:
    """Collects the mentions in a log, boot by boot."""

    def __init__(self) -> None:
        self.boot = Boot()
        """The boot that writes the next lines."""
        self.mentions = Mentions(boots=[self.boot])
        self.ended = 0
        """How many faults, pages and addresses had been named when a boot last ended."""
        self._split = 0
        """How many had been named when a boot without a first line last began."""
        self._known: dict[_Key, Mention] = {}
        self._numbers: dict[_Key, Mention] = {}
        # Hashes of keys take less memory than keys; a long log may have millions.
        self._dropped: set[int] = set()

    @property
    def count(self) -> int:
        """How many faults, pages and addresses have been named so far."""
        return len(self.mentions.named)

    def add(self, kind: Kind, value: int, line: str, message: Message) -> Mention | None:
        """
        Add what a message names.

        :return: Its mention, or an earlier one of the same; ``None`` if there are too many.
        """
        return self.add_mention(Mention(kind, value, line, message, self.boot))

    def add_mention(self, mention: Mention) -> Mention | None:
        """As :meth:`add()`, for a mention that was made before it was known what it names."""
        key = self._key(mention.kind, mention.value)
        known = self._known.get(key) or self._known.get(self._key(Kind.FAULT, mention.value))
        if known is not None:
            known.times += 1
            return known
        if len(self._known) >= MENTIONS_LIMIT:
            self._drop(key)
            return None
        self._known[key] = mention
        self.mentions.named.append(mention)
        return mention

    def add_number(self, value: int, line: str) -> None:
        """Add an address that no message names."""
        key = self._key(Kind.ADDRESS, value)
        known = (
            self._known.get(self._key(Kind.FAULT, value))
            or self._known.get(key)
            or self._numbers.get(key)
        )
        if known is not None:
            known.times += 1
        elif len(self._numbers) >= MENTIONS_LIMIT:
            self._drop(key)
        else:
            mention = self._numbers[key] = Mention(Kind.ADDRESS, value, line, None, self.boot)
            self.mentions.others.append(mention)

    def drop(self, kind: Kind, value: int) -> None:
        """Count a number of which it is not known what it names."""
        self._drop(self._key(kind, value))

    def begin_boot(self) -> None:
        """Begin a boot with its first line."""
        self.boot = Boot()
        self.mentions.boots.append(self.boot)
        self.ended = self.count

    def split_boot(self, before: int) -> None:
        """
        Begin a boot whose first line is not in the log.

        :param before: How many mentions are of the boots before it.
        """
        named, first = self.mentions.named, max(before, self._split)
        self._split = len(named)
        self.boot = Boot()
        if len(self.mentions.boots) < MENTIONS_LIMIT:
            self.mentions.boots.append(self.boot)
        for mention in named[first:]:
            mention.boot = self.boot
            self._known[self._key(mention.kind, mention.value)] = mention

    def _key(self, kind: Kind, value: int) -> _Key:
        return len(self.mentions.boots), kind, value

    def _drop(self, key: _Key) -> None:
        self._dropped.add(hash(key))
        self.mentions.dropped = len(self._dropped)
