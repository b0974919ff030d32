# SPDX-License-Identifier: LGPL-2.1-or-later

"""Oopses of real kernels, in the forms in which people have them, with and without a dump."""

from __future__ import annotations

import json
import quopri
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support import COMMAND, run
from tests.vm.conftest import Boot
from tests.vm.test_kernels import Record, report, row
from vmcores.recipe import Dump


def forms(made: Dump) -> Iterator[tuple[str, bytes]]:
    """The guest's log as it came."""
    log = "\n".join(made.facts["log"]).encode()
    quoted = b"".join(b"> > " + line + b"\n" for line in log.splitlines())
    headers = b"Subject: oops\nContent-Transfer-Encoding: quoted-printable\n\n"
    yield "serial line", made.console.read_bytes()
    yield "dmesg", log
    yield "quoted in a mail", headers + quopri.encodestring(quoted)


def explain(text: bytes, *target: object) -> dict[str, Any]:
    """What the command says of a text."""
    command = (COMMAND, *target, "explain", "--stdin", "--format", "json")
    done = run(*command, input=text.decode("utf-8", "replace"), timeout=600)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("line", ("6.1", "6.12", "newest"))
def test_an_oops_is_explained_in_every_form_with_and_without_a_dump(
    boot: Boot, record_property: Record, line: str
) -> None:
    made = boot(line, "oops")
    record_property("row", row(report(made), made))
    oops = made.facts["oops"]
    address, pfn = int(oops["address"], 16), oops["pfn"]
    texts = dict(forms(made))

    own = run(COMMAND, "-c", made.vmcore, "explain", "--dmesg", "--format", "json", timeout=600)
    explained = {name: explain(text, "-c", made.vmcore) for name, text in texts.items()}
    explained["the dump's own log"] = json.loads(own.stdout)
    for name, found in explained.items():
        (fault,) = (e for e in found["explanations"] if e["what"] == hex(address))
        assert (fault["access"], fault["allowed_now"]) == ("write", False), name
        assert (fault["page"]["pfn"], fault["page"]["folio"]) == (pfn, oops["folio"]), name
        assert fault["page"]["members"] == ["_refcount"], name
        assert [entry["level"] for entry in fault["logged_walk"]][-1] == "PTE", name
        assert all(entry["same"] for entry in fault["logged_walk"]), name
        assert found["other_boot"] == [], name

    for name, text in texts.items():
        (fault,) = (e for e in explain(text)["text_only"] if e["kind"] == "fault")
        assert (fault["value"], fault["access"]) == (hex(address), "write"), name
        certain = [s["text"] for s in fault["statements"] if s["certainty"] == "certain"]
        assert any("mapped read-only by a PTE" in statement for statement in certain), name
        said = " ".join(statement["text"] for statement in fault["statements"])
        assert "_refcount" in said, name
        assert f"{pfn & (1 << 24) - 1:#08x}" in said, name
    record_property("note", f"{made.facts.get('release', line)}: explained as {', '.join(texts)}")
