"""Without an endpoint, tracing is off and its library is not imported."""

import subprocess
import sys

import pytest

from leadgateway import tracing
from tests import environment

_LOOK = """
import sys
import django
django.setup()
from leadgateway import tracing
from tests.web_server import web_server
import delivery.tasks, leadgateway.celery
tracing.start()
with web_server() as web:
    assert web.post(b"?").status_code == 400
print([name for name in sys.modules if name.startswith("opentelemetry")])
"""


def run(code: str, **env: str) -> subprocess.CompletedProcess[str]:
    given = environment.of_a_process(**env) | {"DJANGO_SETTINGS_MODULE": "leadgateway.settings"}
    return subprocess.run(
        [sys.executable, "-c", code], env=given, cwd=environment.ROOT, capture_output=True, text=True, timeout=60
    )


def test_without_an_endpoint_the_library_is_not_imported(tmp_path):
    looked = run(_LOOK, VAR_DIR=str(tmp_path))

    assert looked.stdout.strip().endswith("[]"), looked.stdout + looked.stderr


def test_without_an_endpoint_a_span_does_nothing():
    def work():
        with tracing.span("x", "CLIENT", {}) as headers:
            assert headers == {}
            tracing.note({tracing.LEAD_ID: 1}, error="KeyError")
            raise KeyError

    with pytest.raises(KeyError):
        work()


def test_an_invalid_endpoint_stops_the_start(tmp_path):
    refused = run("import leadgateway", VAR_DIR=str(tmp_path), OTEL_EXPORTER_OTLP_ENDPOINT="collector:4318")

    assert refused.returncode == 78
    assert "OTEL_EXPORTER_OTLP_ENDPOINT: not valid" in refused.stderr
