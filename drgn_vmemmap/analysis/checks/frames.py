# SPDX-License-Identifier: LGPL-2.1-or-later

"""Checks on the frames that back the vmemmap: whether they are in use, and by what."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from drgn_vmemmap.analysis.checks.context import VmemmapContext
from drgn_vmemmap.hvo.ownership import ZONE_OWNER, Ownership
from drgn_vmemmap.rules import frames as frame_rules
from drgn_vmemmap.rules.finding import Finding
from drgn_vmemmap.vmemmap.frames import FrameFault, FrameProblem, FrameReader, Unknown

# Frames that are checked between two checks whether the user has interrupted.
_BATCH = 4096


def check_frames(context: VmemmapContext, ownership: Ownership) -> Iterator[Finding]:
    """Find frames that back the vmemmap and are free, or belong to something else."""
    yield from _FrameCheck(context, ownership).findings()


class _FrameCheck:
    """Checks all frames that back the vmemmap."""

    def __init__(self, context: VmemmapContext, ownership: Ownership) -> None:
        self._context = context
        self._ownership = ownership
        self._pages = FrameReader(context.snapshot)
        self._unknown = 0
        """Frames whose own struct pages are not in the dump."""

    def findings(self) -> Iterator[Finding]:
        yield from self._of_last_level()
        yield from self._of_leaves()
        if self._unknown:
            yield frame_rules.unreadable_frames(self._unknown)

    def _of_last_level(self) -> Iterator[Finding]:
        """Frames that last-level entries map."""
        frames = self._ownership.distinct_frames
        if self._context.has_offline:
            frames = [frame for frame in frames if self._context.is_online(frame)]
        found: dict[int, FrameFault] = {}
        batches = [frames[start : start + _BATCH] for start in range(0, len(frames), _BATCH)]
        for batch in self._context.progress.track(batches, "frames"):
            for problem in self._certain(self._pages.check(batch)):
                found[problem.frame] = problem
        for frame, page in zip(self._ownership.frames, self._ownership.pages) if found else ():
            if frame in found:
                yield self._finding(
                    found[frame], self._first_tail(frame) if page == ZONE_OWNER else page
                )

    def _of_leaves(self) -> Iterator[Finding]:
        """Frames that large leaves map."""
        context = self._context
        leaves = [leaf for leaf in self._ownership.leaves if context.is_online(leaf.frame)]
        for leaf in context.progress.track(leaves, "frames"):
            for problem in self._certain(self._pages.check_leaf(leaf.frame, leaf.pages)):
                yield self._finding(problem, leaf.page_of(problem.frame))

    def _certain(self, problems: Iterable[FrameProblem]) -> Iterator[FrameFault]:
        """The problems that are known for certain; frames of which nothing is known are counted."""
        for problem in problems:
            if isinstance(problem, Unknown):
                self._unknown += 1
            else:
                yield problem

    def _finding(self, fault: FrameFault, page: int) -> Finding:
        """
        :param page: Number of the vmemmap page that the frame backs; :data:`ZONE_OWNER` for none.
        """
        if page == ZONE_OWNER:
            address = self._context.geometry.address(fault.frame)
            return frame_rules.tail_frame_fault(fault, address)
        return frame_rules.frame_fault(self._context.page(page), fault)

    def _first_tail(self, frame: int) -> int:
        """The first vmemmap page that shares a zone's frame; :data:`ZONE_OWNER` if none does."""
        folios = self._context.report.folios
        if frame not in folios.reuse_frames:
            return ZONE_OWNER
        pfn = folios.folios.pfns[folios.reuse_frames.index(frame)]
        return self._context.geometry.page_number(pfn) + 1
