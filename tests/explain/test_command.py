# SPDX-License-Identifier: LGPL-2.1-or-later

"""The command explain, on recorded kernels."""

from __future__ import annotations

import gzip
import json
import os
import subprocess

import pytest

from drgn_vmemmap import discover
from drgn_vmemmap.explain.dump.explainer import Explainer
from drgn_vmemmap.explain.dump.query import parse
from drgn_vmemmap.explain.text.read import read_text
from drgn_vmemmap.output.explanation_document import document
from tests.support import answer, recorded, shared_vmcore, vmcore, vmemmap


def run(*arguments: object, text: bytes = b"") -> subprocess.CompletedProcess[str]:
    return answer("explain", *arguments, prog=shared_vmcore("head-reuse"), stdin=text)


def test_a_folio_of_a_recorded_kernel_is_explained() -> None:
    prog = shared_vmcore("head-reuse")
    kernel = discover(prog)
    report = recorded("head-reuse")
    folio = next(folio for folio in report["folios"] if folio["verdict"] == "optimized")
    tail = kernel.geometry.address(folio["pfn"] + 100) + 8
    done = run("--format", "json", f"{tail:x}")
    (explanation,) = json.loads(done.stdout)["explanations"]
    assert done.returncode == 0
    assert explanation["page"]["folio"] == folio["pfn"]
    assert explanation["page"]["members"] == ["compound_head"]
    assert explanation["frame"] == folio["reuse_frame"]
    assert [step["level"] for step in explanation["walk"]] == ["PGD", "P4D", "PUD", "PMD", "PTE"]
    (seen,) = explanation["seen_by"]
    assert (seen["folio"], seen["vmemmap_pages"]) == (folio["pfn"], "0-7")
    assert document(Explainer.of_program(prog).explain(parse(f"{tail:x}"))) == explanation


@pytest.mark.parametrize(
    ("offset", "members"),
    (
        (52, ["_refcount"]),
        (64 + 64, ["_flags_2"]),
        (3 * 64 + 16, ["_hugetlb_subpool"]),
        (100 * 64 + 56, ["memcg_data"]),
    ),
)
def test_members_have_the_names_of_the_kernels_own_types(offset: int, members: list[str]) -> None:
    prog = shared_vmcore("head-reuse")
    explains = Explainer.of_program(prog)
    report = recorded("head-reuse")
    address = int(report["folios"][0]["head"], 16) + offset
    page = explains.explain(parse(hex(address))).page
    assert page is not None and page.members == members


def test_an_oops_from_a_mail_is_explained() -> None:
    mail = b"\x1b[31mBUG: Bad page state in process x  pfn:00001\x07\n\xff\xfe\n"
    # A log may be bytes of any kind, whatever Python would make of standard input.
    done = vmemmap(
        *("-c", vmcore("head-reuse"), "explain", "--stdin"),
        input=mail.decode(errors="surrogateescape"),
        errors="surrogateescape",
        env={**os.environ, "PYTHONIOENCODING": "utf-8:strict"},
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("1 fault or PFN that the log names is neither")
    assert "\x1b" not in done.stdout


def test_an_empty_log_is_not_taken_for_one_that_names_nothing() -> None:
    assert run("--stdin", text=b"\n").returncode == 0
    assert read_text(gzip.compress(b"")).problem == read_text(b"").problem
    done = run("--stdin")
    assert (done.returncode, done.stdout) == (3, "the log names no fault and no PFN\n")
    assert len(done.stderr.splitlines()) == 1 and "the log is empty" in done.stderr


def test_without_its_log_a_dump_still_explains_what_was_asked() -> None:
    done = run("--dmesg", "0x1234")
    assert done.returncode == 3
    assert done.stdout.startswith("0x1234: in user space")
    assert len(done.stderr.splitlines()) == 1 and "kernel's log" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "reason"),
    (((), "nothing"), (("x",), "no address"), (("pfn:100",), "pfn:0x100 or pfn:0x64")),
)
def test_a_wrong_question_gets_one_line(arguments: tuple[str, ...], reason: str) -> None:
    done = run(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1 and reason in done.stderr


def test_a_dump_without_its_log_is_not_said_to_have_one_that_names_nothing() -> None:
    done = run("--dmesg")
    assert (done.returncode, done.stdout) == (3, "")
    assert "the kernel's log: " in done.stderr


def test_memory_whose_entries_are_not_in_the_dump_is_not_said_to_be_unmapped() -> None:
    done = run("ff2c171181899070")
    assert done.returncode == 3
    assert "whether it is mapped is not known: PMD: not in the dump" in done.stdout
    assert "mapped to no memory" not in done.stdout


def test_a_hole_between_two_ranges_of_memory_has_no_struct_page() -> None:
    done = answer("explain", "phys:0xc8000000", prog=shared_vmcore("two-nodes-1GiB"))
    assert done.stdout.startswith("phys:0xc8000000: a physical address\n")
    assert "frame 0xc8000: has no memmap: no section holds it" in done.stdout
    assert "not in the dump" not in done.stdout
