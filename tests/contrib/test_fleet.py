# SPDX-License-Identifier: LGPL-2.1-or-later

"""For fleets: units, alerts and the dashboard are accepted, and are about what the tool writes."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import COMMAND, ROOT, recorded, run, vmcore, vmemmap

FLEET = ROOT / "contrib" / "fleet"
DASHBOARD: dict[str, Any] = json.loads((FLEET / "dashboard.json").read_text())
OTHERS_METRICS = {"node_textfile_mtime_seconds"}


def needed(program: str, package: str) -> str:
    path = shutil.which(program)
    if path is None:
        pytest.skip(f"{program} is not installed: apt-get install {package}")
    return path


@pytest.fixture(scope="module")
def promtool() -> str:
    return needed("promtool", "prometheus")


@pytest.fixture(scope="module")
def metrics() -> str:
    """What the service writes of a recorded kernel."""
    command = ("-c", vmcore("head-reuse"), "verify", "--format", "prometheus")
    return vmemmap(*command, check=True).stdout


def names_in(text: str) -> set[str]:
    """The names of metrics in some text."""
    return set(re.findall(r"\b(?:drgn_vmemmap_\w+|node_textfile_\w+)", text))


# systemd.


def test_systemd_accepts_the_units(tmp_path: Path) -> None:
    analyze = needed("systemd-analyze", "systemd")
    for name in ("drgn-vmemmap.service", "drgn-vmemmap.timer"):
        text = (FLEET / name).read_text()
        # systemd looks for the program where the system's are.
        (tmp_path / name).write_text(text.replace("ExecStart=drgn-vmemmap", f"ExecStart={COMMAND}"))
    units = sorted(tmp_path.iterdir())
    done = run(analyze, "verify", "--man=no", *units)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_the_service_writes_metrics_that_anybody_may_read(tmp_path: Path, metrics: str) -> None:
    service = (FLEET / "drgn-vmemmap.service").read_text()
    (line,) = re.findall(r"^ExecStart=(.*)$", service, re.MULTILINE)
    _, *words = shlex.split(line)
    written = Path(words[-1])
    assert f"ReadWritePaths={written.parent}\n" in service
    words[words.index("-k") : words.index("-k") + 1] = ["-c", str(vmcore("head-reuse"))]
    words[-1] = str(tmp_path / written.name)
    done = vmemmap(*words, umask=0o022)  # as systemd sets it
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert Path(words[-1]).read_text() == metrics
    assert Path(words[-1]).stat().st_mode & 0o444 == 0o444


# Prometheus.


def test_prometheus_accepts_the_metrics(promtool: str, metrics: str) -> None:
    done = run(promtool, "check", "metrics", input=metrics)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.long
def test_the_alerts_pass_their_tests(promtool: str) -> None:
    for command in (("check", "rules", "alerts.yml"), ("test", "rules", "alerts.test.yml")):
        done = run(promtool, *command, cwd=FLEET)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "SUCCESS" in done.stdout


@pytest.mark.parametrize("name", ("alerts.yml", "alerts.test.yml", "dashboard.json"))
def test_each_metric_that_is_asked_for_is_written(name: str, metrics: str) -> None:
    asked = names_in((FLEET / name).read_text())
    assert len(asked) >= 6
    assert asked - OTHERS_METRICS <= names_in(metrics)


def test_each_alert_has_a_test() -> None:
    alerts = re.findall(r"- alert: (\w+)", (FLEET / "alerts.yml").read_text())
    tests = (FLEET / "alerts.test.yml").read_text()
    for alert in alerts:
        assert re.search(rf"alertname: {alert}\n\s+exp_alerts:\n\s+- exp_labels", tests), alert


# Grafana.


def test_grafanas_schema_knows_all_that_the_dashboard_says() -> None:
    reason = "grafana-foundation-sdk is not installed; it needs Python 3.11"
    models = pytest.importorskip("grafana_foundation_sdk.models.dashboard", reason=reason)
    from grafana_foundation_sdk.cog.encoder import JSONEncoder
    from grafana_foundation_sdk.cog.plugins import register_default_plugins

    register_default_plugins()
    read = models.Dashboard.from_json(DASHBOARD)
    assert [*unknown(DASHBOARD, json.loads(JSONEncoder().encode(read)), "dashboard")] == []


def unknown(ours: Any, theirs: Any, path: str) -> Iterator[str]:
    """What of a document did not survive being read by a schema and written again."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        for key, value in ours.items():
            yield from unknown(value, theirs.get(key), f"{path}.{key}")
    elif isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        for index, (one, other) in enumerate(zip(ours, theirs)):
            yield from unknown(one, other, f"{path}[{index}]")
    elif ours != theirs:
        yield path


def test_panels_do_not_lie_over_each_other() -> None:
    places = [
        (x, y)
        for panel in DASHBOARD["panels"]
        for place in (panel["gridPos"],)
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(places) == len(set(places))
    assert max(x for x, _ in places) < 24
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(ids) == len(set(ids))


def expressions() -> dict[str, str]:
    """Each panel's expression, as for all hosts."""
    return {
        panel["title"]: target["expr"].replace("$instance", ".*")
        for panel in DASHBOARD["panels"]
        for target in panel["targets"]
    }


def panel_test(expression: str, **samples: float) -> dict[str, Any]:
    """
    A test of promtool's: what an expression gives a minute after the start.

    :param samples: Values by labels, in PromQL.
    """
    expected = [{"labels": labels, "value": value} for labels, value in samples.items()]
    return {"expr": expression, "eval_time": "1m", "exp_samples": expected}


def test_each_panel_shows_what_there_is_of_a_host(
    promtool: str, metrics: str, tmp_path: Path
) -> None:
    totals, asked = recorded("head-reuse")["totals"], expressions()
    saved, possible = totals["net_saved_bytes"], totals["still_possible_bytes"]
    verdicts = {
        f'{{verdict="{name}"}}': totals.get(name, 0)
        for name in re.findall(r'node="0",verdict="(.*)"', metrics)
    }
    kernel = re.search(r"^drgn_vmemmap_info{(.*)}", metrics, re.MULTILINE)
    assert kernel is not None
    tests = {
        "Hosts": {"{}": 1},
        "Broken": {"{}": 0},
        "Incomplete": {"{}": 0},
        "Poisoned folios": {"{}": 0},
        "Saved": {"{}": saved},
        "Still possible": {"{}": possible},
        "Findings": {},
        "Kernels": {f'drgn_vmemmap_info{{instance="a",{kernel[1]}}}': 1},
        "Saved, by host": {'drgn_vmemmap_net_saved_bytes{instance="a"}': saved},
        # HVO is off for new folios of this kernel.
        "Still possible, by host": {},
        "Folios, by verdict": verdicts,
        "Age of the check, by host": {'{instance="a",file="/m/drgn_vmemmap.prom"}': 60},
    }
    assert list(tests) == list(asked)
    document = {
        "interval": "1m",
        "input_series": [*series_of(metrics, "a")],
        "promql_expr_test": [panel_test(asked[title], **tests[title]) for title in asked],
    }
    written = tmp_path / "test.yml"
    written.write_text(json.dumps({"tests": [document]}))  # JSON is YAML
    done = run(promtool, "test", "rules", written)
    assert done.returncode == 0, done.stdout + done.stderr


def series_of(metrics: str, instance: str) -> Iterator[dict[str, str]]:
    """Metrics that stay as they are, as series for promtool."""
    for name, labels, value in re.findall(r"^(drgn\w+){(.*)} (\d+)$", metrics, re.MULTILINE):
        separator = "," if labels else ""
        series = f'{name}{{instance="{instance}"{separator}{labels}}}'
        yield {"series": series, "values": f"{value}x5"}
    file = f'instance="{instance}",file="/m/drgn_vmemmap.prom"'
    yield {"series": f"node_textfile_mtime_seconds{{{file}}}", "values": "0x5"}
