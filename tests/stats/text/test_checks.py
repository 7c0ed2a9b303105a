"""Every result of a check has its sentences."""

import ast
from datetime import timedelta

import pytest

from stats.monitoring.checks import pipeline
from stats.monitoring.checks.result import CheckResult, Verdict, failure
from stats.text import checks
from tests.environment import ROOT
from tests.make import NOON

MODULES = sorted((ROOT / "stats" / "monitoring" / "checks").glob("*.py"))


def test_every_check_that_the_code_names_has_sentences() -> None:
    named = {
        call.args[0].value
        for module in [*MODULES, ROOT / "stats" / "monitoring" / "pipeline_check.py"]
        for call in ast.walk(ast.parse(module.read_text()))
        if isinstance(call, ast.Call) and call.args and isinstance(call.args[0], ast.Constant)
        if isinstance(call.func, ast.Name | ast.IfExp) and ast.unparse(call.func).split()[0].strip("(") in MAKERS
    }

    assert named - {"database", "queue"} == set(checks._TEXTS), "database and queue are for readiness only"


MAKERS = {"ok", "warning", "failure", "make"}


def test_every_failure_and_warning_has_a_remedy() -> None:
    for check, texts in checks._TEXTS.items():
        for key, text in texts.items():
            is_good = key in {"ok", "environment", "file", "encrypted", "queue_directory", "tls_ok", "starting"}
            assert bool(text.remedy) is not is_good, (check, key)


@pytest.mark.parametrize("kind", pipeline.IncidentKind)
def test_every_kind_of_incident_is_described(kind: pipeline.IncidentKind) -> None:
    since = (NOON - timedelta(minutes=3)).isoformat()
    numbers = dict.fromkeys(("leads", "depth", "attempts", "failed", "minutes", "a_week_ago", "running"), 7)

    found = checks.describe(CheckResult(kind, Verdict.FAILURE, facts={"since": since, **numbers}), now=NOON)

    assert found.detail
    assert found.remedy


def test_private_facts_are_shown_in_a_terminal() -> None:
    facts = {"since": (NOON - timedelta(minutes=3)).isoformat()}
    private = {"by": "otto", "reason": "maintenance", "waiting": 4}
    result = CheckResult(pipeline.IncidentKind.DELIVERY_PAUSED, Verdict.WARNING, "", facts, private)

    detail = checks.describe(result, now=NOON).detail

    assert detail == "Delivery has been paused for 3 min by otto: maintenance. Leads waiting: 4"


def test_braces_in_a_fact_are_no_placeholders() -> None:
    result = failure("mapping", file="mapping.json", error='{"a": 1} is invalid')

    assert checks.describe(result, now=NOON).detail == '{"a": 1} is invalid'
    assert checks.readiness_reason(result) == '{"a": 1} is invalid'
