# SPDX-License-Identifier: LGPL-2.1-or-later

"""The rules as the command line explains them, with or without a target."""

from __future__ import annotations

import json

import pytest

from drgn_vmemmap.cli import command_line
from drgn_vmemmap.cli.exit_codes import DONE
from drgn_vmemmap.rules.rule import RULES
from tests.support import answer, refused, vmcore, vmemmap


def unwrapped(text: str) -> str:
    return " ".join(text.split())


def explained(capsys: pytest.CaptureFixture[str], *names: str) -> str:
    assert command_line.execute(command_line.parse(["rules", *names]), None) == DONE
    out, err = capsys.readouterr()
    assert not err
    return out


@pytest.mark.parametrize("name", RULES)
def test_each_rule_is_explained(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    out = explained(capsys, name)
    rule, text = RULES[name], unwrapped(out)
    assert text.startswith(f"{name}: {rule.severity.value} ")
    assert all(part in text for part in (rule.requires, rule.meaning, rule.source))
    assert rule.needs.value in text
    assert ("checked by verify," in text) is rule.verify_only
    assert all(len(line) <= 80 for line in out.splitlines())


def test_without_a_name_all_rules_are_explained(capsys: pytest.CaptureFixture[str]) -> None:
    done = vmemmap("rules")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "\n".join(explained(capsys, name) for name in RULES)
    assert vmemmap("-c", vmcore("head-reuse"), "rules").stdout == done.stdout


def test_machines_get_all_of_it() -> None:
    documents = json.loads(answer("rules", "--format", "json").stdout)
    assert [each["rule"] for each in documents] == [*RULES]
    for each in documents:
        rule = RULES[each["rule"]]
        assert each["severity"] == rule.severity.value
        assert (each["requires"], each["meaning"]) == (rule.requires, rule.meaning)


def test_a_rule_that_does_not_exist_is_answered_with_the_nearest_one() -> None:
    refused(answer("rules", "tail-writeable"), 2, "'tail-writeable'", "'tail-writable'")
    refused(answer("rules", "tail-writable", "zzz"), 2, "'zzz'", "not-present, tail-writable")
