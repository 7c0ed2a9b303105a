"""The cURL commands, run by a real shell with a curl that prints its arguments."""

import json
import os
import shlex
import subprocess
import uuid

import pytest

from leads.models import InboundLead
from stats.admin.curl import post_to_customer, post_to_gateway

LEAD = InboundLead(correlation_id=uuid.UUID(int=1), idempotency_key=uuid.UUID(int=2))

PAYLOADS = [
    {"a": "' \" \\ ` $HOME $(id) !! \n JSON\nJSON\n%s ; & | <>"},
    {"JSON": "äöü 🙂 \u202e\x7f\u0000\x1b[2J"},
    {"a": "x" * 250_000},
    {},
    "JSON",
    None,
]


@pytest.fixture
def run(tmp_path):
    """A function that runs a command and returns curl's arguments and its input."""
    curl = tmp_path / "curl"
    curl.write_text('#!/bin/sh\nprintf "%s\\n" "$@" >&2\ncat\n')
    curl.chmod(0o755)
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "SHARED_SECRET": "s 1", "CUSTOMER_API_TOKEN": "t 2"}

    def running(command):
        done = subprocess.run(["bash"], input=command, env=environment, capture_output=True, text=True, check=True)
        return done.stderr.splitlines(), done.stdout

    return running


@pytest.mark.parametrize("payload", PAYLOADS, ids=range(len(PAYLOADS)))
def test_the_shell_passes_the_payload_unchanged(run, payload):
    _arguments, sent = run(post_to_gateway("http://localhost/webhooks/leads", payload))

    assert json.loads(sent) == payload


def test_the_command_of_the_sender_has_its_headers(run):
    arguments, _sent = run(post_to_gateway("http://localhost/a b'c", {}))

    assert arguments[:4] == ["-sS", "-X", "POST", "http://localhost/a b'c"]
    assert arguments[4:] == [
        *("-H", "Content-Type: application/json"),
        *("-H", "X-Shared-Secret: s 1"),
        *("--data-binary", "@-"),
    ]


def test_the_command_of_the_gateway_has_its_headers(run):
    arguments, sent = run(post_to_customer("https://customer.example/lead/", LEAD, {"phone": "1"}))

    assert arguments[3] == "https://customer.example/lead/"
    assert [each for each in arguments if ": " in each] == [
        "Content-Type: application/json",
        "Accept: application/json",
        f"Idempotency-Key: {uuid.UUID(int=2)}",
        f"X-Correlation-ID: {uuid.UUID(int=1)}",
        "Authorization: Bearer t 2",
    ]
    assert json.loads(sent) == {"phone": "1"}


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://user:secret@customer.example:8443/x", "https://customer.example:8443/x"),
        ("https://customer.example/x?key=secret&a=b", "https://customer.example/x?REDACTED"),
        ("https://customer.example/x?secret#secret", "https://customer.example/x?REDACTED"),
        ("https://[secret", "REDACTED"),
    ],
)
def test_secrets_in_the_url_are_removed(url, shown):
    command = post_to_customer(url, LEAD, {})

    assert "secret" not in command
    assert command.startswith(f"curl -sS -X POST {shlex.quote(shown)} ")


def test_exclamation_marks_and_invisible_characters_are_escaped():
    body = post_to_gateway("http://localhost/", {"a": "Hallo !du \u202e\u200b"}).splitlines()[-2]

    assert body == '{"a": "Hallo \\u0021du \\u202e\\u200b"}'
