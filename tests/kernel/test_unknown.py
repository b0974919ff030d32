# SPDX-License-Identifier: LGPL-2.1-or-later

"""Kernels that are not known: what was not recognised is named, and nobody is accused."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from drgn_vmemmap import CannotAnalyse, verify
from drgn_vmemmap.analysis.document import document
from drgn_vmemmap.cli import command_line
from drgn_vmemmap.cli.exit_codes import INCOMPLETE
from drgn_vmemmap.explain.dump.explainer import Explainer
from drgn_vmemmap.explain.dump.query import parse
from drgn_vmemmap.extract.content import Content
from drgn_vmemmap.extract.owners import check_marks
from drgn_vmemmap.extract.recording import extract
from drgn_vmemmap.hugetlb.folio import State
from drgn_vmemmap.hvo.verdict import Verdict
from drgn_vmemmap.kernel.discovery import discover
from drgn_vmemmap.kernel.layout import Layout
from drgn_vmemmap.kernel.lookup import Lookup
from drgn_vmemmap.kernel.page_names import page_names
from drgn_vmemmap.kernel.unrecognised import Part
from drgn_vmemmap.output.report import View, render
from drgn_vmemmap.rules.finding import Severity
from tests.damage.edited import EditedKernel
from tests.output.page import parsed
from tests.support import open_vmcore, recorded
from tests.synthetic.image import Image
from tests.synthetic.kernels import LINES, ONE_OF_EACH_LAYOUT, Struct, types
from tests.synthetic.model import FIRST_FOLIO, Folio, Machine
from tests.synthetic.physical import WRITABLE

FOLIOS = (
    Folio(FIRST_FOLIO),
    Folio(FIRST_FOLIO + 512, state=State.ACTIVE),
    Folio(FIRST_FOLIO + 1024, remapped=False),
)


def names(release: str) -> Iterator[tuple[str, str]]:
    """All names by which a kernel is known: structures' members, enumerators, variables."""
    machine = Machine(line=LINES[release])
    known = types(release, machine.page_size, machine.max_nodes)
    for name, struct in known.structs.items():
        yield from ((f"struct {name}", member) for member in struct.members)
    for name, enumerators in known.enums.items():
        yield from ((f"enum {name}", enumerator) for enumerator in enumerators)
    yield from (("", variable) for variable in Image(machine).variables)


def renamed(release: str, where: str, name: str) -> Image:
    """A kernel that calls one thing by a name that is not known."""
    image = Image(Machine(line=LINES[release], folios=FOLIOS))
    image.types = copy.copy(image.types)
    kind, _, type_name = where.partition(" ")
    if kind == "struct":
        size, members = image.types.structs[type_name]
        changed = {f"new_{key}" if key == name else key: item for key, item in members.items()}
        image.types.structs = {**image.types.structs, type_name: Struct(size, changed)}
    elif kind == "enum":
        enumerators = dict(image.types.enums[type_name])
        enumerators[f"NEW_{name}"] = enumerators.pop(name)
        image.types.enums = {**image.types.enums, type_name: enumerators}
    else:
        image.variables[f"new_{name}"] = image.variables.pop(name)
    return image


NAMES = [
    (release, *name)
    for release in ONE_OF_EACH_LAYOUT
    for name in names(release)
    # Until v5.17, HVO's switch is all that shows that there is HVO.
    if name != ("", "hugetlb_free_vmemmap_enabled")
]


ZONES = ("node_data", "node_zones")
"""Names that lead to the zones, where these keep tails."""

WITHOUT = {
    Part.SWITCH: ("vmemmap_optimize_enabled",),
    Part.OPTIMIZED_FLAG: ("HPG_vmemmap_optimized", "private"),
    Part.LAYOUT: ("hugetlb_optimize_vmemmap_key", "vmemmap_tails", *ZONES),
    Part.HSTATE_COUNTERS: (
        *("nr_huge_pages", "free_huge_pages", "surplus_huge_pages", "nr_huge_pages_node"),
        *("free_huge_pages_node", "surplus_huge_pages_node", "resv_huge_pages", "max_huge_pages"),
    ),
    Part.HSTATE_LISTS: ("hugepage_activelist", "hugepage_freelists", "lru", "list_head.next"),
    Part.FREE_PAGES: ("private", "_refcount", "page_type"),
    Part.TAIL_WORDS: ("mapping", "_refcount", "page_type"),
    Part.OWNER_MARKS: ("PG_lru", "PG_reserved", "page_type"),
}
"""Names that the analysis can do without, at a price that it names."""

UNCHECKED = {
    Part.SWITCH: ("unoptimized",),
    Part.OPTIMIZED_FLAG: ("flag-mismatch",),
    Part.LAYOUT: (
        *("tail-writable", "head-read-only", "reuse-mismatch", "reuse-invalid", "frame-aliased"),
        *("flag-mismatch", "tail-content", "stale-struct-page", "orphan-remap"),
    ),
    Part.HSTATE_COUNTERS: ("count-mismatch", "in-flight"),
    Part.HSTATE_LISTS: ("list-corrupt", "off-list", "count-mismatch"),
    Part.FREE_PAGES: ("frame-freed", "table-freed"),
    Part.TAIL_WORDS: ("tail-content", "frame-foreign"),
    Part.OWNER_MARKS: ("frame-foreign",),
}
"""The rules that are not checked without a part, or not in full."""

NEEDED = {
    "where memory has struct pages": ("mem_section", "section_mem_map"),
    "which sizes of folios there are": ("hstates", "order"),
    "what is a folio": (
        *("flags", "PG_head", "page_type", "compound_dtor", "HUGETLB_PAGE_DTOR"),
        *("compound_order", "_flags_1"),
    ),
    "what is a tail, and whose": ("compound_head", "compound_info"),
}
"""
Names without which there is nothing to report on, and what they say.

There is no vmemmap to walk without the sections that have struct pages, and no folio has an end
without its order. Without the mark of HugeTLB, which is a ``page_type`` since v6.9, any compound
page could be a folio; without ``PG_head``, so could what a restore leaves with that mark. A page
that is not known to be a tail could be a head.
"""


@pytest.mark.parametrize(("release", "where", "name"), NAMES)
def test_a_kernel_with_a_new_name_is_reported_on_or_refused_by_that_name(
    release: str, where: str, name: str
) -> None:
    try:
        report = verify(renamed(release, where, name).prog)
    except CannotAnalyse as error:
        assert name in str(error)
        assert len(str(error).splitlines()) == 1
        assert any(name in names for names in NEEDED.values())
        return
    wrong = [finding for finding in report.findings if finding.severity is not Severity.INFO]
    assert (len(report.folios), wrong) == (3, [])
    parts = [
        part
        for part, names in WITHOUT.items()
        if name in names or f"{where.partition(' ')[2]}.{name}" in names
        if name not in ZONES or release == "7.2.0"
    ]
    assert [each.part for each in report.kernel.unrecognised] == parts
    assert all(name in each.lacks for each in report.kernel.unrecognised)
    assert report.incomplete == bool(parts)
    assert report.unchecked.keys() == {rule for part in parts for rule in UNCHECKED[part]}


@pytest.mark.parametrize("enabled", (True, False))
@pytest.mark.parametrize("release", LINES)
def test_all_of_a_known_kernel_is_recognised(release: str, enabled: bool) -> None:
    line = LINES[release]
    image = Image(Machine(line=line, folios=FOLIOS[2:], enabled=enabled))
    kernel = verify(image.prog).kernel
    assert kernel.unrecognised == []
    assert kernel.hvo.layout is line.layout
    assert kernel.hvo.enabled is (enabled if line.variables else None)


@pytest.mark.parametrize("type_name", ("hstate", "folio", "pglist_data"))
def test_a_kernel_without_a_structure_is_refused_by_its_name(type_name: str) -> None:
    image = Image(Machine(line=LINES["7.2.0"], folios=FOLIOS))
    image.types = copy.copy(image.types)
    image.types.structs = {k: v for k, v in image.types.structs.items() if k != type_name}
    with pytest.raises(CannotAnalyse, match=f"this kernel has no struct {type_name}: "):
        verify(image.prog)


@pytest.mark.parametrize(
    ("release", "where", "name"),
    (("6.12.0", "", "hugetlb_optimize_vmemmap_key"), ("7.2.0", "struct zone", "vmemmap_tails")),
)
def test_folios_of_a_layout_that_is_not_known_are_counted_and_not_judged(
    release: str, where: str, name: str
) -> None:
    report = verify(renamed(release, where, name).prog)
    assert report.kernel.hvo.layout is Layout.UNKNOWN
    assert [judgement.verdict.value for _, judgement in report.folios] == [
        *("optimized", "optimized", "unoptimized")
    ]
    # A frame that the zone keeps is taken for the folio's own.
    freed = 7 if release == "6.12.0" else 6
    assert report.totals.counts.freed == 2 * freed
    assert report.totals.still_possible == 0
    assert not report.broken and report.incomplete


def test_the_folios_of_a_recorded_kernel_are_counted_without_its_layout(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    address = Lookup.address
    monkeypatch.setattr(
        Lookup,
        "address",
        lambda lookup, name: None if name.endswith("vmemmap_key") else address(lookup, name),
    )
    report = verify(open_vmcore("head-reuse"))
    expected = recorded("head-reuse")["totals"]
    counts = report.totals.counts.as_dict()
    assert counts == {name: expected[name] for name in counts}
    assert report.kernel.hvo.layout is Layout.UNKNOWN
    assert not report.broken and report.incomplete and not report.lacks_memory


def test_what_was_not_recognised_is_named_with_the_rules_that_need_it() -> None:
    report = verify(renamed("6.12.0", "", "hugetlb_optimize_vmemmap_key").prog)
    text = "".join(render(report, "table", View(details=True)))
    (line,) = (part for part in text.split("\n\n") if "not recognised: " in part)
    assert "HVO's layout" in line and "hugetlb_optimize_vmemmap_key" in line
    assert "13 of 22 rules in full: incomplete; nothing is known to be broken" in text
    (skipped,) = (
        line
        for line in "".join(render(report, "ktap", View(details=True))).splitlines()
        if " tail-writable" in line
    )
    assert "# SKIP HVO's layout: this kernel has no vmemmap_tails" in skipped
    (unrecognised,) = document(report, folios=True)["unrecognised"]
    assert "tail-writable" in unrecognised["unchecked"]
    (notice,) = (
        parsed("".join(render(report, "html", View()))).one(id="summary").all(class_="notice")
    )
    assert notice.text.startswith("Not recognised. HVO's layout: this kernel has no vmemmap_tails")
    assert notice.text.endswith(", ".join(unrecognised["unchecked"]) + ".")


@pytest.mark.parametrize(
    "command",
    (
        *(("report", "--format", name) for name in ("table", "csv", "json", "jsonl", "html")),
        *(("verify", "--format", name) for name in ("table", "csv", "ktap")),
        ("map",),
    ),
)
def test_each_output_names_what_was_not_recognised(
    command: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    prog = renamed("6.12.0", "", "hugetlb_optimize_vmemmap_key").prog
    assert command_line.run(command, prog) == INCOMPLETE
    assert "hugetlb_optimize_vmemmap_key" in "".join(capsys.readouterr())


@pytest.mark.parametrize(("name", "is_known"), (("vmemmap_tails", False), ("no_such_member", True)))
def test_tails_are_compared_where_the_layout_is_recognised(name: str, is_known: bool) -> None:
    image = renamed("7.2.0", "struct zone", name)
    (frame,) = image.tail_frames.values()
    image.drop_frame(frame)
    missing = [f.message for f in verify(image.prog).findings if f.rule == "unreadable"]
    assert any("not compared" in message for message in missing) is is_known


@pytest.mark.parametrize(("where", "name"), (("struct hstate", "name"), ("", "hugetlb_max_hstate")))
def test_hstates_are_known_by_their_orders(where: str, name: str) -> None:
    known = Image(Machine(line=LINES["6.12.0"], folios=FOLIOS))
    expected, found = (
        document(verify(image.prog), folios=True)
        for image in (known, renamed("6.12.0", where, name))
    )
    assert found == expected
    assert [each["name"] for each in found["hstates"]] == [
        *("hugepages-2048kB", "hugepages-1048576kB")
    ]


@pytest.mark.parametrize("name", ("hugepage_activelist", "hugepage_freelists"))
def test_folios_are_found_and_judged_where_their_lists_are_not_recognised(name: str) -> None:
    image = renamed("7.2.0", "struct hstate", name)
    kernel = EditedKernel(image.prog)
    kernel.write_entry(FIRST_FOLIO, 3, kernel.entry(FIRST_FOLIO, 3) | 1 << 1)
    report = kernel.check()
    assert len(report.folios) == 3
    assert {finding.rule for finding in report.findings} == {"tail-writable", "unoptimized"}


WORDS = (
    ("struct page", "lru"),
    ("struct list_head", "next"),
    ("struct page", "private"),
    ("struct page", "_refcount"),
)


@pytest.mark.parametrize(
    ("release", "where", "name"),
    (
        *((release, *word) for release in ("6.12.0", "7.2.0") for word in WORDS),
        # Later, page types have the mark of HugeTLB folios.
        ("5.15.0", "struct page", "page_type"),
    ),
)
def test_faults_are_found_that_do_not_rest_on_a_word_which_is_not_recognised(
    release: str, where: str, name: str
) -> None:
    kernel = EditedKernel(renamed(release, where, name).prog)
    kernel.write_entry(FIRST_FOLIO, 3, kernel.entry(FIRST_FOLIO, 3) | 1 << 1)
    kernel.write_member(FIRST_FOLIO + 1024 + 5, "compound_head", 0)
    report = kernel.check()
    wrong = [(f.rule, f.folio) for f in report.findings if f.severity is not Severity.INFO]
    expected = [("tail-writable", FIRST_FOLIO), ("tail-content", FIRST_FOLIO + 1024)]
    assert (len(report.folios), wrong) == (3, expected)
    assert report.broken and report.incomplete
    explainer = Explainer(kernel.snapshot(), page_names(kernel.prog))
    for pfn in (FIRST_FOLIO, FIRST_FOLIO + 5, 1):
        of_page = explainer.explain(parse(f"pfn:{pfn:#x}")).of_page
        assert of_page is not None and of_page.page is not None and of_page.page.pfn == pfn
    assert Content(kernel.kernel, [0]).is_struct_page(bytes(64))


@pytest.mark.parametrize(
    ("release", "name"),
    (("6.12.0", "mapping"), ("7.2.0", "private"), ("6.12.0", "_refcount"), ("5.15.0", "page_type")),
)
def test_pages_of_users_are_not_recognised_without_the_words_that_say_so(
    release: str, name: str
) -> None:
    kernel = discover(renamed(release, "struct page", name).prog)
    with pytest.raises(CannotAnalyse, match=f"^no extract: .* {name} in struct page$"):
        check_marks(kernel)


def test_no_extract_is_written_where_pages_of_users_are_not_recognised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = Lookup.enumerators
    monkeypatch.setattr(
        Lookup,
        "enumerators",
        lambda lookup, name: {k: v for k, v in known(lookup, name).items() if k != "PG_reserved"},
    )
    path = tmp_path / "vmcore"
    with pytest.raises(CannotAnalyse, match=r"^no extract: it might hold user data.*PG_reserved"):
        extract(open_vmcore("head-reuse"), str(path), compress=False)
    assert not path.exists()


@pytest.mark.parametrize(
    ("where", "name"), (("", "node_data"), ("struct pglist_data", "node_zones"))
)
def test_nobody_is_accused_where_zones_are_not_recognised_that_keep_tails(
    where: str, name: str
) -> None:
    report = verify(renamed("7.2.0", where, name).prog)
    assert report.kernel.hvo.layout is Layout.UNKNOWN
    assert report.totals.counts.freed == 2 * 6
    assert not report.broken and report.incomplete


def test_a_counter_that_is_not_recognised_has_no_value() -> None:
    report = verify(renamed("7.2.0", "struct hstate", "free_huge_pages").prog)
    (hstate,) = (each for each in document(report, folios=True)["hstates"] if each["folios"])
    assert hstate["free_huge_pages"] is None
    assert hstate["nr_huge_pages"] == 3


def test_a_broken_folio_is_still_found_where_a_counter_is_not_recognised() -> None:
    image = renamed("7.2.0", "struct hstate", "max_huge_pages")
    kernel = EditedKernel(image.prog)
    kernel.write_entry(FIRST_FOLIO, 3, kernel.entry(FIRST_FOLIO, 3) | 1 << 1)
    assert {finding.rule for finding in kernel.check().findings} >= {"tail-writable"}


@pytest.mark.parametrize("is_in_dump", (True, False))
def test_a_folio_of_an_unknown_layout_may_be_mapped_to_nothing(is_in_dump: bool) -> None:
    image = renamed("6.12.0", "", "hugetlb_optimize_vmemmap_key")
    if is_in_dump:
        image.write_entry(FIRST_FOLIO, 3, 0)
    else:
        image.drop_frame(image.entry_address(FIRST_FOLIO, 3) >> 12)
    report = verify(image.prog)
    verdict = next(iter(report.folios)).judgement.verdict
    assert verdict is (Verdict.INCONSISTENT if is_in_dump else Verdict.UNREADABLE)
    assert report.broken == is_in_dump


def test_a_folio_of_an_unknown_layout_may_share_a_frame_that_is_writable() -> None:
    image = renamed("6.12.0", "", "hugetlb_optimize_vmemmap_key")
    for page in range(1, 8):
        image.write_entry(FIRST_FOLIO, page, image.entry(FIRST_FOLIO, page) | WRITABLE)
    report = verify(image.prog)
    assert next(iter(report.folios)).judgement.read_only == ()
    assert not report.broken


@pytest.mark.parametrize("enabled", (True, False))
@pytest.mark.parametrize("layout", (Layout.TAIL_REUSE, Layout.HEAD_REUSE))
def test_hstates_tell_layouts_apart_where_the_switch_does_not(
    layout: Layout, enabled: bool
) -> None:
    """One commit before v5.18, layouts had changed, and the switch was what it was before."""
    line = replace(LINES["5.15.0"], layout=layout)
    folios = FOLIOS if enabled else FOLIOS[2:]
    report = verify(Image(Machine(line=line, folios=folios, enabled=enabled)).prog)
    assert report.kernel.hvo.layout is (layout if enabled else Layout.TAIL_REUSE)
    assert {finding.rule for finding in report.findings} == {"unoptimized"}
    assert not report.incomplete
