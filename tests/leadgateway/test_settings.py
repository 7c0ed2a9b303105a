"""The settings, each read by a process of its own."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def manage(*arguments, tmp_path, **env):
    """Run manage.py with `env` as its environment."""
    base = {"PATH": os.environ["PATH"], "VAR_DIR": str(tmp_path / "var"), "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(
        [sys.executable, "manage.py", *arguments], cwd=ROOT, env=base | env, capture_output=True, text=True, timeout=60
    )


def setting(name, tmp_path, **env):
    code = f"from django.conf import settings; print((settings.{name},))"
    result = manage("shell", "-v", "0", "-c", code, tmp_path=tmp_path, **env)
    assert result.returncode == 0, result.stderr
    return result.stdout.strip().splitlines()[-1].removeprefix("(").removesuffix(")").removesuffix(",")


#: An invalid value of each variable, and a part of the allowed ones. tests/leadgateway/test_env.py tests the rest.
INVALID_VALUES = {
    "RETRY_BACKOFF_BASE": ("fast", "500ms, 30s, 1m30s or 2h"),
    "CUSTOMER_API_TIMEOUT": ("0s", "at least"),
    "CUSTOMER_API_RATE_LIMIT": ("20", "20/s or 90/m"),
    "WEBHOOK_RATE_LIMIT": ("1000", "20/s or 90/m"),
    "WEB_ANSWER_TIMEOUT": ("50ms", "at least 0.1s"),
    "REQUEUE_AFTER": ("500ms", "at least 1s"),
    "WEB_READ_TIMEOUT": ("10ms", "at least 0.1s"),
    "CUSTOMER_API_MAX_CONCURRENCY": ("-1", "from 0 to 10000"),
    "MONITORING_INTERVAL": ("1ms", "at least 0.1s"),
    "CIRCUIT_LEADS": ("0", "from 1 to 100"),
    "WORKER_CONCURRENCY": ("0", "from 1 to 500"),
    "API_PORT": ("99999", "from 1 to 65535"),
    "QUEUE_TYPE": ("kafka", "redis, rabbitmq, database"),
    "LOG_LEVEL": ("loud", "debug, info, warn, error"),
    "ENABLE_AUTH": ("maybe", "true or false"),
    "MAX_PAYLOAD_BYTES": ("256K", "whole number"),
}


def test_all_invalid_values_stop_the_start_with_their_names(tmp_path):
    result = manage("check", tmp_path=tmp_path, **{name: value for name, (value, _) in INVALID_VALUES.items()})

    assert result.returncode == 78
    assert "Traceback" not in result.stderr
    lines = {line.partition(":")[0]: line for line in result.stderr.splitlines()[1:]}
    assert set(lines) == set(INVALID_VALUES)
    for name, (value, allowed) in INVALID_VALUES.items():
        assert f"{value!r} is not allowed" in lines[name]
        assert allowed in lines[name]


@pytest.mark.parametrize(
    ("env", "messages"),
    [
        (
            """
            ENABLE_AUTH=true DEBUG=true DB_MAX_OPEN_CONNS=3 DB_MAX_IDLE_CONNS=4 REDIS_URL=localhost:6379
            DATABASE_URL=mysql://root:hunter2@localhost/x CIRCUIT_BACKOFF_BASE=10m SECRET_KEY=hunter3
            ALERT_EMAIL=ops@example.com ALERT_WEBHOOK_URL=hooks.example.com/hunter4
            """,
            [
                "SHARED_SECRET: empty, but ENABLE_AUTH is true",
                "DEBUG: true, but ENABLE_AUTH is true",
                "DB_MAX_IDLE_CONNS: 4 exceeds",
                "DATABASE_URL: not valid",
                "REDIS_URL: not valid",
                "CIRCUIT_BACKOFF_MAX: shorter than CIRCUIT_BACKOFF_BASE",
                "SECRET_KEY: too short",
                "ALERT_EMAIL: set, but EMAIL_URL is not",
                "ALERT_WEBHOOK_URL: not valid",
            ],
        ),
        (
            """
            SHARED_SECRET=hunter2,b SHARED_SECRET_NAMES={too_long} STATS_TOKEN=b DATABASE_URL=postgres
            ALERT_EMAIL=ops EMAIL_URL=filemail:///tmp
            """,
            [
                "STATS_TOKEN: also in SHARED_SECRET",
                "SHARED_SECRET_NAMES: 1 names for 2 secrets",
                "SHARED_SECRET_NAMES: a name is longer",
                "DATABASE_URL: not valid",
                "ALERT_EMAIL: or ALERT_EMAIL_FROM is not an e-mail address",
                "EMAIL_URL: not valid",
            ],
        ),
        ("EMAIL_URL=mail.example.com", ["EMAIL_URL: not valid"]),
        ("QUEUE_URL=rabbit.example.com", ["QUEUE_URL: not valid; expected amqp://"]),
        ("QUEUE_TYPE=rabbitmq", ["QUEUE_URL: not valid; expected amqp://"]),
        ("QUEUE_TYPE=redis QUEUE_URL=amqp://u:hunter2@localhost/x", ["QUEUE_URL: set, but QUEUE_TYPE is redis"]),
    ],
    ids=["unsafe", "names", "mail", "queue", "no queue", "two queues"],
)
def test_settings_that_contradict_each_other_stop_the_start(tmp_path, env, messages):
    variables = dict(assignment.split("=", 1) for assignment in env.format(too_long="x" * 101).split())

    result = manage("check", tmp_path=tmp_path, **variables)

    assert result.returncode == 78
    for message in messages:
        assert message in result.stderr
    assert "hunter" not in result.stderr + result.stdout


def test_a_broken_mapping_file_fails_the_check_by_key_and_field(tmp_path):
    mapping = tmp_path / "mapping.json"
    mapping.write_text('{"solar_area": {"attribute_type": "range", "is_numeric": true, "values": [5]}}')

    result = manage("check", tmp_path=tmp_path, ATTRIBUTE_MAPPING_FILE=str(mapping))

    assert result.returncode == 1
    assert "ATTRIBUTE_MAPPING_FILE" in result.stderr
    assert "solar_area: values" in result.stderr


@pytest.mark.parametrize(
    "server",
    [
        ["gunicorn", "-c", "python:leadgateway.server.config", "leadgateway.asgi"],
        ["celery", "-A", "leadgateway", "beat"],
    ],
)
def test_a_server_does_not_start_with_a_broken_mapping_file(tmp_path, server):
    env = {
        "PATH": os.environ["PATH"],
        "VAR_DIR": str(tmp_path / "var"),
        "ATTRIBUTE_MAPPING_FILE": str(tmp_path / "nothing.json"),
        "API_PORT": "1",
    }
    program = str(Path(sys.executable).parent / server[0])

    result = subprocess.run([program, *server[1:]], cwd=ROOT, env=env, capture_output=True, text=True, timeout=60)

    assert result.returncode != 0
    assert "nothing.json: cannot be read" in result.stderr


def test_with_nothing_set_the_database_is_embedded_and_the_queue_is_the_database(tmp_path):
    assert (
        setting("DATABASES['default']['ENGINE'].split('.')[-1], settings.QUEUE_TYPE", tmp_path)
        == "'sqlite3', 'database'"
    )


def test_with_a_database_host_the_database_is_as_specified(tmp_path):
    limits = {"DB_MAX_OPEN_CONNS": "50", "DB_MAX_IDLE_CONNS": "10"}
    database = setting("DATABASES['default']", tmp_path, DB_HOST="db.example.com", QUEUE_TYPE="redis", **limits)

    assert (
        "'HOST': 'db.example.com', 'PORT': 5432, 'USER': 'postgres', 'PASSWORD': 'postgres', 'NAME': 'lead_gateway'"
        in database
    )
    assert "'sslmode': 'disable'" in database
    assert "'min_size': 10, 'max_size': 50" in database


def test_database_url_takes_precedence_over_its_parts(tmp_path):
    url = "postgres://ann:secret@other:5433/leads?sslmode=require"
    database = setting("DATABASES['default']", tmp_path, DB_HOST="db", DATABASE_URL=url)

    assert "'HOST': 'other'" in database
    assert "'sslmode': 'require'" in database


def test_a_secret_key_is_generated_once_and_only_its_owner_can_read_it(tmp_path):
    first, second = setting("SECRET_KEY", tmp_path), setting("SECRET_KEY", tmp_path)

    assert first == second
    assert len(first) > 50
    assert (tmp_path / "var" / "secret_key").stat().st_mode & 0o777 == 0o600


def test_the_deployment_check_is_clean_with_nothing_set(tmp_path):
    result = manage("check", "--deploy", "--fail-level", "WARNING", tmp_path=tmp_path)

    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize(
    ("document", "pattern"), [("docs/settings.md", r"^\| `([A-Z_]+)` \|"), ("config/env.example", r"^#? ?([A-Z_]+)=")]
)
def test_the_documents_have_every_variable_and_no_other(document, pattern):
    from leadgateway.settings import env

    assert set(re.findall(pattern, (ROOT / document).read_text(), re.MULTILINE)) == set(env.names)


def test_the_mail_server_is_read_from_its_url(tmp_path):
    env = {"EMAIL_URL": "smtp+tls://user:p%40ss@mail.example.com:587", "ALERT_EMAIL": "a@example.com, b@example.com"}

    found = setting("EMAIL_PORT, settings.EMAIL_HOST_PASSWORD, settings.ALERT_EMAIL", tmp_path, **env)

    assert found == "587, 'p@ss', ['a@example.com', 'b@example.com']"
