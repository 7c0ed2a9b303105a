import json
import sys
from dataclasses import asdict
from typing import Any

from django.core.management.base import BaseCommand, CommandParser
from django.utils import timezone

from leadgateway.dependencies import database_problem
from stats.models import Incident, MonitoringState
from stats.monitoring import report, rules
from stats.monitoring.doctor.database import without_pool
from stats.monitoring.doctor.finding import Finding, Verdict, examine
from stats.monitoring.doctor.report import show, summary
from stats.monitoring.pipeline_check import THRESHOLDS
from stats.monitoring.snapshot import take_snapshot

#: A database that is frozen is told of after this many seconds.
_LIMIT_S = 10


class Command(BaseCommand):
    help = "Show whether leads come in and go out right now, by the rules of the alerts. Exit code 1 when not."
    requires_system_checks = []  # a bad configuration must not hide how things stand

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--json", action="store_true", help="print a JSON list of the findings")

    def handle(self, *args: Any, **options: Any) -> None:
        with without_pool():
            findings = examine("pipeline", _findings, limit_s=_LIMIT_S)
        if options["json"]:
            self.stdout.write(json.dumps([asdict(finding) for finding in findings], indent=2, ensure_ascii=False))
        else:
            show(self, findings)
            self.stdout.write(summary(findings))
        if any(finding.verdict is Verdict.FAIL for finding in findings):
            sys.exit(1)


def _findings() -> list[Finding]:
    if problem := database_problem():
        return [report.database_is_away(problem)]
    at = timezone.now()
    results = rules.judge(take_snapshot(now=at, thresholds=THRESHOLDS), THRESHOLDS)
    incidents = list(Incident.objects.filter(closed_at=None).order_by("pk"))
    watch = MonitoringState.objects.filter(pk=1).first()
    return [
        *report.findings(results, now=at),
        *report.lingering(incidents, results, now=at),
        report.last_check(watch, now=at),
    ]
