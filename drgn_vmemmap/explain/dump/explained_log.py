# SPDX-License-Identifier: LGPL-2.1-or-later

"""Faults, pages and addresses that a log names, explained by a dump."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from drgn_vmemmap.explain.dump.explainer import Explainer
from drgn_vmemmap.explain.dump.explanation import Explanation, Logged
from drgn_vmemmap.explain.dump.query import Query
from drgn_vmemmap.explain.dump.walks import causes, compare
from drgn_vmemmap.explain.error_code import RESERVED, USER
from drgn_vmemmap.explain.log.boot import Boot
from drgn_vmemmap.explain.log.mention import LoggedWalk, Mention
from drgn_vmemmap.explain.log.proven import proven_pfn
from drgn_vmemmap.explain.log.reader import find_mentions
from drgn_vmemmap.explain.messages.message import Kind
from drgn_vmemmap.explain.text.line import Line
from drgn_vmemmap.paging.mapping import Problem


class Foreign(NamedTuple):
    """A mention in a log of another boot; the dump says nothing of it."""

    mention: Mention
    why: str
    """The difference between the two boots, in words."""
    pfn: int | None
    """PFN whose struct page was there in that boot; ``None`` if the log does not prove it."""


@dataclass
class LogExplanation:
    """The explanations of all that a log names."""

    explanations: list[Explanation] = field(default_factory=list)
    """Explanations of mentions that concern the vmemmap or a HugeTLB folio."""
    others: list[Explanation] = field(default_factory=list)
    """Faults, pages and addresses that do not."""
    foreign: list[Foreign] = field(default_factory=list)
    dropped: int = 0
    """How many more the log names than are explained."""
    unnamed: int = 0
    """How many page faults there are whose addresses are not in the log."""
    architectures: set[str] = field(default_factory=set)
    """The architectures of kernels that wrote it, by their names, other than x86-64."""

    @property
    def incomplete(self) -> bool:
        """Whether something was left unexplained."""
        return bool(self.foreign or self.dropped or self.unnamed or self.architectures) or any(
            explanation.incomplete for explanation in self.explanations
        )


def explain_log(explainer: Explainer, lines: Iterable[Line], boot: Boot) -> LogExplanation:
    """
    Explain what a log names.

    :param lines: The log.
    :param boot: The dump's, as VMCOREINFO describes it.
    """
    found = find_mentions(lines, explainer.is_struct_page, explainer.encryption_mask)
    boot = replace(boot, vmemmap=explainer.vmemmap)
    own, foreign = _by_boot((*found.named, *found.others), boot)
    result = LogExplanation(
        foreign=foreign,
        dropped=found.dropped,
        unnamed=found.unnamed,
        architectures=found.architectures,
    )
    explainer.find_frames(map(query_of, own))
    pages: set[int] = set()
    for mention in own:
        explanation = explainer.explain(query_of(mention))
        if not explanation.concerns_hugetlb:
            result.others.append(explanation)
            continue
        if mention.is_virtual and explanation.page is not None:
            # Registers at a fault point all over the same struct page.
            if mention.message is None and explanation.page.pfn in pages:
                continue
            pages.add(explanation.page.pfn)
        explanation.logged = _logged(explainer, mention, explanation)
        result.explanations.append(explanation)
    return result


def _by_boot(mentions: Iterable[Mention], boot: Boot) -> tuple[list[Mention], list[Foreign]]:
    """The mentions of the dump's boot, and those of others but for mere numbers."""
    own, foreign = [], []
    for mention in mentions:
        why = _of_other_architecture(mention) or mention.boot.difference(boot)
        if why is None:
            own.append(mention)
        elif mention.message is not None:
            foreign.append(Foreign(mention, why, _foreign_pfn(mention)))
    return own, foreign


def _of_other_architecture(mention: Mention) -> str | None:
    name = mention.architecture
    return None if name is None else f"the log's kernel is one for {name}, the dump's for x86-64"


def query_of(mention: Mention) -> Query:
    """The query that a mention in a log amounts to."""
    if mention.kind is Kind.PFN:
        return Query.of_pfn(mention.value)
    if mention.kind is Kind.PHYSICAL:
        return Query.of_physical(mention.value)
    return Query.of_address(mention.value)


def _foreign_pfn(mention: Mention) -> int | None:
    if mention.is_virtual and mention.architecture is None:
        return proven_pfn(mention)
    return None


def _logged(explainer: Explainer, mention: Mention, explanation: Explanation) -> Logged:
    logged = Logged(mention, allowed_now=_allowed_now(mention, explanation))
    if mention.words and explanation.page is not None:
        logged = logged._replace(contents=explainer.contents(mention.words, explanation.page.pfn))
    if mention.walk is not None and not mention.is_page:
        logged = _with_walk(logged, mention.walk, explainer, explanation)
    if logged.allowed_now and mention.access is not None:
        why = causes(logged.leaf, list(logged.entries), mention.access, mention.error_code)
        logged = logged._replace(causes=tuple(why))
    return logged


def _with_walk(
    logged: Logged, walk: LoggedWalk, explainer: Explainer, explanation: Explanation
) -> Logged:
    """Add the walk that was logged: its entries, and the frame that it led to."""
    logged = logged._replace(entries=compare(walk, explanation.steps))
    mention = logged.mention
    if mention.has_error(RESERVED):
        # An entry with a reserved bit was damaged: it is not known what it mapped.
        return logged
    leaf = walk.leaf(mention.value, explainer.encryption_mask)
    if leaf is None or leaf.frame is None:
        return logged._replace(leaf=leaf)
    return logged._replace(
        leaf=leaf,
        mapping=explainer.mapping_of(leaf.frame),
        reuse_frame_of=_reuse_frame_of(explainer, leaf.frame, explanation),
    )


def _reuse_frame_of(explainer: Explainer, frame: int, explanation: Explanation) -> int | None:
    """The folio at an address, if a frame is its reuse frame."""
    page = explanation.page
    if page is None or page.folio is None:
        return None
    folio = page.folio.folio
    return folio.pfn if explainer.is_reuse_frame(frame, folio) else None


def _allowed_now(mention: Mention, explanation: Explanation) -> bool | None:
    """Whether the dump's page tables allow an access that faulted."""
    access, entry = mention.access, explanation.entry
    if not mention.is_fault or access is None or entry is None:
        return None
    if entry.problem is Problem.UNREADABLE:
        return None
    if entry.frame is None or (mention.has_error(USER) and not entry.access.user):
        return False
    allowed = {"write": entry.access.writable, "instruction fetch": entry.access.executable}
    return allowed.get(access, True)
