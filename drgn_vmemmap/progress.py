# SPDX-License-Identifier: LGPL-2.1-or-later

"""Work that takes long: shown while it is done, and ended where the user says so."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar

Item = TypeVar("Item")


class Work:
    """Work that nobody watches."""

    interrupted = False
    """Whether the user ended it: what was found is not all."""

    def over(self, items: Sequence[Item], what: str) -> Iterator[Item]:
        """
        Give items one by one, as long as the user does not end the work.

        :param items: What the work is done on.
        :param what: What it is, in a word or two.
        """
        for item in items:
            if self.interrupted:
                return
            yield item


UNWATCHED = Work()
