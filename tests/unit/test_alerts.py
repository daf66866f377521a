"""deploy/prometheus and deploy/grafana: what they ask for exists, and alerts go off when they should."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import REGISTRY

from headway.contract.states import State
from service import metrics
from service.scheduling.store_metrics import StoreMetrics
from tests.support.checkout import ROOT
from tests.support.programs import program

RULES = ROOT / "deploy" / "prometheus" / "alerts.yml"
DASHBOARD = json.loads((ROOT / "deploy" / "grafana" / "headway.json").read_text())
ALERTS: dict[str, dict[str, Any]] = {
    rule["alert"]: rule
    for group in yaml.safe_load(RULES.read_text())["groups"]
    for rule in group["rules"]
    if "alert" in rule
}
EXPRESSIONS = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]
CALM = {
    'up{job="headway", instance="a"}': "1x60",
    'headway_store_memory_bytes{instance="a"}': "50x60",
    'headway_store_memory_limit_bytes{instance="a"}': "100x60",
    'headway_workers{instance="a"}': "1x60",
    'headway_queue_jobs{instance="a", queue="q"}': "3x60",
    'headway_queue_workers{instance="a", queue="q"}': "1x60",
    'headway_queue_oldest_seconds{instance="a", queue="q"}': "5x60",
    'headway_jobs_ended_total{instance="a", type="t", state="failed"}': "0+1x60",
    'headway_jobs_ended_total{instance="a", type="t", state="succeeded"}': "0+9x60",
    'headway_streams_behind{instance="a"}': "0 3 0 2x1 0x60",
    'headway_streams_reset_total{instance="a", reason="cursor_trimmed"}': "0+1x60",
    'headway_streams_reset_total{instance="a", reason="cursor_ahead"}': "0x60",
    'headway_store_failovers_total{instance="a"}': "0x60",
    'headway_hub_distrusted_total{instance="a"}': "0x60",
    'headway_hub_reconnections_total{instance="a"}': "0 1x60",
    'headway_streams_refused_total{instance="a"}': "0x60",
    'headway_alarms_answered_total{instance="a"}': "0+3x60",
    'headway_append_to_write_seconds_bucket{instance="a", le="0.1"}': "0+100x60",
    'headway_append_to_write_seconds_bucket{instance="a", le="5"}': "0+100x60",
    'headway_append_to_write_seconds_bucket{instance="a", le="+Inf"}': "0+100x60",
    'headway_messages_dropped_total{instance="a", worker="w"}': "2x60",
    'headway_webhooks_disabled_total{instance="a"}': "0x60",
    'headway_requests_refused_total{instance="a", reason="credential"}': "0+1x60",
}
"""A minute apart, for an hour."""
TROUBLE: dict[str, dict[str, str]] = {
    "HeadwayDown": {'up{job="headway", instance="a"}': "1 0x60"},
    "HeadwayStoreUnreachable": {'headway_store_memory_bytes{instance="a"}': "50 stale"},
    "HeadwayStoreNearlyFull": {'headway_store_memory_bytes{instance="a"}': "76x60"},
    "HeadwayNoWorkers": {'headway_workers{instance="a"}': "1 0x60"},
    "HeadwayQueueUnserved": {'headway_queue_workers{instance="a", queue="q"}': "1 0x60"},
    "HeadwayQueueOld": {'headway_queue_oldest_seconds{instance="a", queue="q"}': "0+60x60"},
    "HeadwayJobsFailing": {'headway_jobs_ended_total{instance="a", type="t", state="failed"}': "0+10x60"},
    "HeadwayWritesLost": {'headway_streams_reset_total{instance="a", reason="cursor_ahead"}': "0x27 4x60"},
    "HeadwayStoreFailover": {'headway_store_failovers_total{instance="a"}': "0x27 1x60"},
    "HeadwayEventsMissed": {'headway_hub_distrusted_total{instance="a"}': "0x27 1x60"},
    "HeadwayHubReconnects": {'headway_hub_reconnections_total{instance="a"}': "0+2x60"},
    "HeadwayStreamsBehind": {'headway_streams_behind{instance="a"}': "0 3x60"},
    "HeadwayProgressLate": {'headway_append_to_write_seconds_bucket{instance="a", le="0.1"}': "0+50x60"},
    "HeadwayStreamsRefused": {'headway_streams_refused_total{instance="a"}': "0x27 9x60"},
    "HeadwayAlarmsMany": {'headway_alarms_answered_total{instance="a"}': "0+100x60"},
    "HeadwayMessagesDropped": {'headway_messages_dropped_total{instance="a", worker="w"}': "0x27 2x60"},
    "HeadwayWebhooksDisabled": {'headway_webhooks_disabled_total{instance="a"}': "0x27 1x60"},
    "HeadwayCredentialsRefused": {
        'headway_requests_refused_total{instance="a", reason="credential"}': "0+600x60"
    },
}
LOOK_AT = "30m"


def exposed() -> set[str]:
    """Every name under which Prometheus knows a metric of ours."""
    server = {"used_memory": 0, "maxmemory": 0, "connected_slaves": 0, "master_repl_offset": 0}
    families = [*REGISTRY.collect(), *StoreMetrics({}, [], {}, [server]).collect()]
    names = {"headway:jobs_ended:increase15m"}
    for family in families:
        ending = {"counter": ["_total"], "histogram": ["_bucket", "_sum", "_count"]}.get(family.type, [""])
        names.update(family.name + one for one in ending)
    return names


def promtool(*args: str | Path) -> str:
    ran = subprocess.run([program("promtool"), *args], capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


def test_every_metric_that_a_rule_or_a_panel_asks_for_is_exposed() -> None:
    assert metrics.JOBS_SUBMITTED  # is imported, so all of them are registered
    asked = "\n".join([RULES.read_text(), *EXPRESSIONS])
    named = set(re.findall(r"\bheadway[:_][a-z0-9_:]+", asked)) - {"headway_"}
    assert len(named) > 20
    assert named <= exposed()
    for state in re.findall(r'state="(\w+)"', asked):
        assert State(state)


def test_every_alert_has_its_section_in_the_docs() -> None:
    said = (ROOT / "docs" / "alerts.md").read_text()
    assert re.findall(r"(?m)^## (\w+)$", said) == list(ALERTS)
    for name, rule in ALERTS.items():
        assert rule["annotations"]["runbook"] == f"docs/alerts.md#{name.lower()}"
        assert f"**{rule['annotations']['summary']}** ({rule['labels']['severity']})." in said


def test_the_rules_and_the_panels_are_what_prometheus_understands(tmp_path: Path) -> None:
    panels = tmp_path / "panels.yml"
    rules = [{"record": f"panel:{n}", "expr": expr} for n, expr in enumerate(EXPRESSIONS)]
    panels.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    promtool("check", "rules", RULES, panels)


@pytest.mark.parametrize("name", [*ALERTS, ""])
def test_an_alert_goes_off_in_its_trouble_and_no_other_does(name: str, tmp_path: Path) -> None:
    series = {**CALM, **(TROUBLE[name] if name else {})}
    checks = [
        {
            "expr": f"count(ALERTS{{alertname='{alert}', alertstate='firing'}}) or vector(0)",
            "eval_time": LOOK_AT,
            "exp_samples": [{"labels": "{}", "value": int(alert == name)}],
        }
        for alert in ALERTS
    ]
    case = {
        "interval": "1m",
        "input_series": [{"series": key, "values": values} for key, values in series.items()],
        "promql_expr_test": checks,
    }
    path = tmp_path / "tests.yml"
    path.write_text(
        yaml.safe_dump({"rule_files": [str(RULES)], "evaluation_interval": "1m", "tests": [case]})
    )
    promtool("test", "rules", path)
