"""The alert rules of Prometheus, checked by promtool, and the chapters for operators."""

import re

import yaml

from stats.monitoring.checks.pipeline import IncidentKind
from tests.environment import ROOT
from tests.prometheus import RULES, promtool


def alerts() -> list[dict[str, str]]:
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


def test_promtool_accepts_rules_and_configuration() -> None:
    for what, file in (("rules", "alerts.yml"), ("config", "prometheus.yml")):
        checked = promtool("check", what, f"config/prometheus/{file}")
        assert checked.returncode == 0, checked.stdout + checked.stderr


def test_every_alert_fires_in_time_and_not_before() -> None:
    tested = promtool("test", "rules", "config/prometheus/alerts_test.yml")

    assert tested.returncode == 0, tested.stdout + tested.stderr


def test_every_alert_has_a_test() -> None:
    situations = yaml.safe_load((ROOT / "config" / "prometheus" / "alerts_test.yml").read_text())["tests"]
    checks = [check for situation in situations for check in situation.get("alert_rule_test", [])]

    fires = {check["alertname"] for check in checks if check.get("exp_alerts")}
    stays_quiet = {check["alertname"] for check in checks if not check.get("exp_alerts")}
    assert fires == stays_quiet == {rule["alert"] for rule in alerts()}


def test_every_alert_has_a_chapter() -> None:
    chapters = (ROOT / "docs" / "operations.md").read_text()
    for rule in alerts():
        assert rule["annotations"]["runbook"] == f"docs/operations.md#{rule['alert'].lower()}"
        assert re.search(rf"^#+ {rule['alert']}$", chapters, re.MULTILINE), rule["alert"]


def test_every_kind_of_incident_has_a_chapter() -> None:
    chapters = (ROOT / "docs" / "operations.md").read_text()
    for kind in IncidentKind:
        assert re.search(rf"^#+ {kind}$", chapters, re.MULTILINE), kind
