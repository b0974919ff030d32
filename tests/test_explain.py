# SPDX-License-Identifier: LGPL-2.1-or-later

"""What an address is to the vmemmap, on images of every layout and on recorded kernels."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import drgn
import pytest

from drgn_vmemmap import discover
from drgn_vmemmap.examination import explainer
from drgn_vmemmap.explain import Explanation, parse
from drgn_vmemmap.render.explain import document, text
from tests.image import Image
from tests.kernels import LINES
from tests.model import FIRST_FOLIO, REUSE_W, Folio, Machine
from tests.physical import PAGE_SIZE

VMCORES = Path(__file__).parent.parent / "vmcores"
COMMAND = Path(sys.executable).parent / "drgn-vmemmap"

OPTIMIZED, WHOLE = FIRST_FOLIO, FIRST_FOLIO + 512

every_layout = pytest.mark.parametrize("release", ("5.15.0", "6.12.0", "7.2.0"))


def image(release: str, **edits: object) -> Image:
    folios = (Folio(OPTIMIZED, **edits), Folio(WHOLE, remapped=False))  # type: ignore[arg-type]
    return Image(Machine(line=LINES[release], folios=folios))


def explained(of: Image, what: str) -> Explanation:
    return explainer(of.prog).explain(parse(what))


def at(of: Image, pfn: int, offset: int = 0) -> Explanation:
    return explained(of, f"{of.machine.page_address(pfn) + offset:#x}")


# Struct pages.


@every_layout
def test_a_head_page_is_told_and_may_be_written(release: str) -> None:
    explanation = at(image(release), OPTIMIZED)
    assert explanation.page is not None and explanation.page.folio is not None
    assert (explanation.page.pfn, explanation.page.role) == (OPTIMIZED, "head")
    assert explanation.page.folio.folio.pfn == OPTIMIZED
    assert explanation.write.startswith("changes this struct page")


@every_layout
def test_a_write_to_a_shared_tail_faults(release: str) -> None:
    explanation = at(image(release), OPTIMIZED + 5 * 64 + 3)
    assert explanation.page is not None
    assert (explanation.page.role, explanation.page.vmemmap_page) == ("tail", 5)
    assert "0x0003" in explanation.write
    assert "many share" in explanation.read


@every_layout
def test_the_first_struct_page_of_a_shared_page_is_a_fake_head_where_heads_are_reused(
    release: str,
) -> None:
    explanation = at(image(release), OPTIMIZED + 5 * 64)
    assert explanation.page is not None
    assert explanation.page.role == ("fake head" if release == "6.12.0" else "tail")


@every_layout
def test_a_write_to_a_writable_tail_goes_unnoticed(release: str) -> None:
    explanation = at(image(release, edits={5: REUSE_W}), OPTIMIZED + 5 * 64 + 3)
    assert explanation.write.startswith("goes unnoticed")


@every_layout
def test_a_struct_page_of_a_whole_folio_is_its_own(release: str) -> None:
    explanation = at(image(release), WHOLE + 5 * 64 + 3)
    assert explanation.read == "gets this struct page"
    assert explanation.write.startswith("changes this struct page")


def test_the_member_that_an_address_lies_in_is_named() -> None:
    explanation = at(image("6.12.0"), OPTIMIZED + 70, 52)
    assert explanation.page is not None
    assert (explanation.page.offset, explanation.page.members) == (52, ["refcount"])


@pytest.mark.parametrize("pfn", (OPTIMIZED - 1, WHOLE + 512))
def test_struct_pages_beside_a_folio_are_not_its_own(pfn: int) -> None:
    explanation = at(image("6.12.0"), pfn)
    assert explanation.page is not None and explanation.page.folio is None


# Frames.


@pytest.mark.parametrize(
    ("release", "index", "seen"),
    (
        ("5.15.0", 1, [f"vmemmap pages 1-7 of folio {OPTIMIZED:#x}"]),
        ("6.12.0", 0, [f"vmemmap pages 0-7 of folio {OPTIMIZED:#x}"]),
        ("7.2.0", 1, ["the tails of 1 folios of its zone"]),
    ),
)
def test_who_sees_the_reuse_frame_is_told(release: str, index: int, seen: list[str]) -> None:
    of = image(release)
    frame = of.frames[OPTIMIZED][index]
    for what in (f"pfn:{frame:#x}", f"phys:{(frame or 0) << 12:#x}"):
        assert explained(of, what).seen_by == seen
    assert at(of, OPTIMIZED + 3 * 64).seen_by == seen


def test_a_freed_frame_is_told_to_be_free() -> None:
    of = image("6.12.0")
    freed = of.memmap.boot_frame(of.memmap.number(OPTIMIZED) + 3)
    explanation = explained(of, f"pfn:{freed:#x}")
    assert explanation.frame_state.startswith("free, in the buddy allocator")
    assert explanation.seen_by == []


def test_an_address_of_the_direct_map_is_that_of_its_frame() -> None:
    of = image("6.12.0")
    frame = of.frames[OPTIMIZED][0] or 0
    explanation = explained(of, f"{of.machine.page_offset + frame * PAGE_SIZE:#x}")
    assert explanation.place == "an address of the direct map"
    assert explanation.frame == frame
    assert explanation.seen_by == [f"vmemmap pages 0-7 of folio {OPTIMIZED:#x}"]


# Walks.


@pytest.mark.parametrize("levels", (4, 5))
def test_the_walk_is_shown_level_by_level(levels: int) -> None:
    of = Image(Machine(levels=levels, folios=(Folio(OPTIMIZED),)))
    explanation = at(of, OPTIMIZED + 64)
    names = [step.level.name for step in explanation.steps]
    assert names == [*(["PGD", "P4D"] if levels == 5 else ["PGD"]), "PUD", "PMD", "PTE"]
    last = explanation.steps[-1]
    assert (last.raw, last.raw_address) == (of.entry(OPTIMIZED, 1), of.entry_address(OPTIMIZED, 1))
    assert not last.access.writable
    assert f"{last.raw:016x}" in text(explanation)


def test_a_walk_that_ends_early_is_shown_to_its_end() -> None:
    of = image("6.12.0")
    of.write_entry(OPTIMIZED, 0, 0, level="PMD")
    explanation = at(of, OPTIMIZED + 64)
    assert [step.level.name for step in explanation.steps][-1] == "PMD"
    assert explanation.read == "faults: the kernel oopses"


def test_an_entry_that_is_not_in_the_dump_is_not_guessed() -> None:
    of = image("6.12.0")
    of.drop_frame(of.entry_address(OPTIMIZED, 0) >> 12)
    explanation = at(of, OPTIMIZED + 64)
    assert explanation.steps[-1].raw is None
    assert explanation.write.startswith("unknown")


# What is no such address.


@pytest.mark.parametrize(
    "what", ("", "hello", "pfn:", "pfn:x", "phys:-1", "12", "0x", "pfn:1e99", "0x" + "f" * 17)
)
def test_what_is_no_address_is_refused(what: str) -> None:
    with pytest.raises(ValueError, match="no address"):
        parse(what)


@pytest.mark.parametrize(
    ("what", "place"),
    (
        ("0x1234", "user space"),
        ("00007fffa20ace70", "user space"),
        ("0x8000000000000000", "not canonical"),
        ("0xffffffffff000000", "not in the vmemmap"),
        ("phys:0xfffffffffffff", "beyond memory"),
    ),
)
def test_other_addresses_are_told_for_what_they_are(what: str, place: str) -> None:
    explanation = explained(image("6.12.0"), what)
    assert place in explanation.place
    assert not explanation.concerns_hugetlb


# Logs.


def test_what_a_log_names_is_explained_if_it_concerns_hugetlb() -> None:
    of = image("6.12.0")
    fault = of.machine.page_address(OPTIMIZED + 70) + 52
    log = [
        f"BUG: unable to handle page fault for address: {fault:016x}",
        "RAX: 0000000000000001 RBX: ffff888000001000",
        f"BUG: Bad page state in process cat  pfn:{WHOLE + 3:05x}",
        "page: refcount:0 mapcount:0 mapping:00000000deadbeef index:0x0 pfn:0x1",
    ]
    found, others = explainer(of.prog).explain_log(log)
    pfns = [explanation.page.pfn for explanation, _ in found if explanation.page]
    assert pfns == [OPTIMIZED + 70, WHOLE + 3]
    assert others == 1


# The command, on a recorded kernel.


def run(*arguments: object, text: str = "") -> subprocess.CompletedProcess[str]:
    command: list[str | Path] = [
        COMMAND,
        "-c",
        VMCORES / "head-reuse.vmcore",
        "explain",
        *map(str, arguments),
    ]
    return subprocess.run(command, capture_output=True, text=True, input=text)


def test_a_folio_of_a_recorded_kernel_is_explained() -> None:
    prog = drgn.Program()
    prog.set_core_dump(str(VMCORES / "head-reuse.vmcore"))
    kernel = discover(prog)
    report = json.loads((VMCORES / "head-reuse.json").read_text())
    folio = next(folio for folio in report["folios"] if folio["verdict"] == "optimized")
    tail = kernel.page_address(folio["pfn"] + 100) + 8
    done = run("--format", "json", f"{tail:x}")
    (explanation,) = json.loads(done.stdout)["explanations"]
    assert done.returncode == 0
    assert explanation["page"]["folio"] == folio["pfn"]
    assert explanation["page"]["members"] == ["lru", "compound_head"]
    assert explanation["frame"] == folio["reuse_frame"]
    assert [step["level"] for step in explanation["walk"]] == ["PGD", "P4D", "PUD", "PMD", "PTE"]
    assert document(explainer(prog).explain(parse(f"{tail:x}"))) == explanation


def test_an_oops_from_a_mail_is_explained() -> None:
    done = run("--stdin", text="\x1b[31mBUG: Bad page state in process x  pfn:00001\x07\n")
    assert done.returncode == 0
    assert "1 other addresses and PFNs" in done.stdout
    assert "\x1b" not in done.stdout


@pytest.mark.parametrize(("arguments", "reason"), (((), "nothing"), (("x",), "no address")))
def test_a_wrong_question_gets_one_line(arguments: tuple[str, ...], reason: str) -> None:
    done = run(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1 and reason in done.stderr
