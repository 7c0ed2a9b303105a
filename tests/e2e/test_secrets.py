"""No secret leaves the settings.

Every secret of the gateway contains a mark. The tests look for the mark in logs at LOG_LEVEL=debug, in responses, in
the admin, in the output of commands and in what is stored, with and without failures.
"""

import re
import subprocess
from collections.abc import Iterator

import pytest
import requests

from tests.e2e.gateway import Gateway, run_manage
from tests.environment import ROOT
from tests.http_server import Answer, Post, http_server
from tests.make import payload
from tests.servers import PostgresServer, RedisServer, postgres_binary

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

MARK = "secret-mark"
SENDERS = [f"{MARK}-sender-1", f"{MARK}-sender-2"]
READERS = f"{MARK}-readers-token"
PASSWORD = f"{MARK}-staff-password"

#: Every setting that is a secret. `test_every_secret_setting_is_marked` compares it with the settings.
SECRETS = {
    "SECRET_KEY": f"{MARK}-key-{'x' * 50}",
    "DB_PASSWORD": f"{MARK}-database",
    "CUSTOMER_API_TOKEN": f"{MARK}-customers-token",
    "SHARED_SECRET": ",".join(SENDERS),
    "STATS_TOKEN": READERS,
}

LEADS = "/admin/leads/inboundlead/"
REFUSED_PHONE = "+4930422422"


@pytest.fixture(scope="module")
def quoting_customer() -> Iterator[str]:
    """Run a customer that quotes the request with its headers in the response, as debugging pages do."""

    def quote(post: Post) -> Answer:
        status = 422 if REFUSED_PHONE.encode() in post.body else 200
        return Answer(status, f"{post.line}\n{post.headers}".encode())

    with http_server(quote) as url:
        yield f"{url}/leads"


@pytest.fixture(scope="module")
def gateway(postgres: PostgresServer, redis: RedisServer, quoting_customer: str) -> Iterator[Gateway]:
    url = redis.url_of(10).replace("redis://", f"redis://default:{MARK}-broker@")
    env = {"ENABLE_AUTH": "true", "LOG_LEVEL": "debug", "WEB_PROCESSES": "1", "REDIS_URL": url, **SECRETS}
    with Gateway(customer_url=quoting_customer, postgres=postgres, redis=redis, **env) as running:
        make_staff = f"User.objects.create_superuser('root', password={PASSWORD!r})"
        running.manage("shell", "-v0", "-c", f"from django.contrib.auth.models import User; {make_staff}")
        yield running
        for name in ("web", "worker", "beat"):  # everything that the tests have caused
            assert_no_secret(running.logs(name), f"{name}'s log")


@pytest.fixture(scope="module")
def leads(gateway: Gateway) -> dict[str, int]:
    """Return a delivered and a refused lead. The customer quotes our token, the sender its secret in headers."""
    secret = SENDERS[0]
    everywhere = {"Authorization": f"Bearer {secret}", "X_Api_Key": secret, "Cookie": f"session={secret}"}
    delivered = gateway.post(payload(), X_Shared_Secret=secret, **everywhere).json()["lead_id"]
    refused = gateway.post(payload(phone=REFUSED_PHONE), X_Shared_Secret=SENDERS[1]).json()["lead_id"]
    gateway.wait_for("DELIVERED", delivered)
    gateway.wait_for("PERMANENTLY_FAILED", refused)
    return {"delivered": delivered, "refused": refused}


def assert_no_secret(text: str, where: str) -> None:
    found = re.search(rf".{{0,80}}{MARK}.{{0,40}}", text)
    assert found is None, f"{where}: {found[0] if found else ''}"


def everything(answer: requests.Response) -> str:
    return f"{answer.headers}\n{answer.text}"


def test_every_secret_setting_is_marked() -> None:
    names = set(re.findall(r'env\.[a-z]+\(\s*"([A-Z_]+)"', (ROOT / "leadgateway" / "settings.py").read_text()))
    sounds_secret = {name for name in names if re.search(r"SECRET|TOKEN|PASSWORD|KEY", name)}

    # SHARED_SECRET_NAMES holds no secrets. The fixture marks the password in REDIS_URL.
    assert sounds_secret - {"SHARED_SECRET_NAMES"} == set(SECRETS)


def test_no_response_shows_a_secret(gateway: Gateway, leads: dict[str, int]) -> None:
    secret, reader = SENDERS[0], f"Bearer {READERS}"
    answers = [
        gateway.post(payload(), X_Shared_Secret=secret),
        gateway.post(b"no JSON", X_Shared_Secret=secret),
        gateway.post(b" " * 300_000, X_Shared_Secret=secret),
        gateway.post(payload(), X_Shared_Secret=secret + "?"),
        gateway.get("/webhooks/leads", **{"X-Shared-Secret": secret}),
        gateway.get(f"/nowhere?secret={secret}", **{"X-Shared-Secret": secret}),
        gateway.get("/health", Host="other.example.com"),
        gateway.get("/metrics", Authorization=reader),
        gateway.get("/metrics", Authorization=reader + "?"),
        gateway.get("/health/ready", Authorization=reader),
        gateway.get("/stats/leads/recent", Authorization=reader),
        *(gateway.get(f"/stats/leads/{lead}/history", Authorization=reader) for lead in leads.values()),
    ]

    assert {answer.status_code for answer in answers} == {200, 400, 401, 404, 405, 413}
    for answer in answers:
        assert_no_secret(everything(answer), f"{answer.request.method} {answer.url}")


@pytest.fixture
def staff(gateway: Gateway) -> Iterator[requests.Session]:
    """Sign in as a superuser, who sees everything."""
    with requests.Session() as session:
        page = session.get(f"{gateway.url}/admin/login/").text
        sent = {"username": "root", "password": PASSWORD, "csrfmiddlewaretoken": token_in(page), "next": "/admin/"}
        assert session.post(f"{gateway.url}/admin/login/", data=sent).url.endswith("/admin/")
        yield session


def token_in(page: str) -> str:
    found = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', page)
    assert found
    return found[1]


def test_no_admin_page_shows_a_secret(gateway: Gateway, staff: requests.Session, leads: dict[str, int]) -> None:
    one = [f"{LEADS}{lead}/change/" for lead in leads.values()]
    attempt = gateway.rows("SELECT max(id) AS id FROM delivery_attempt")[0]["id"]
    event = gateway.rows("SELECT max(id) AS id FROM lead_event")[0]["id"]
    lists = ["/admin/", LEADS, "/admin/delivery/deliveryattempt/", "/admin/leads/leadevent/", "/admin/auth/user/"]
    details = [f"/admin/delivery/deliveryattempt/{attempt}/change/", f"/admin/leads/leadevent/{event}/change/"]

    pages = {path: staff.get(gateway.url + path) for path in [*one, *lists, *details, "/admin/auth/user/1/change/"]}
    token = token_in(pages["/admin/auth/user/1/change/"].text)
    pages |= {
        kind: staff.post(f"{gateway.url}{LEADS}export/", data={"format": kind, "csrfmiddlewaretoken": token})
        for kind in ("csv", "jsonl")
    }

    for path, page in pages.items():
        assert page.status_code == 200, path
        assert_no_secret(everything(page), path)
    assert "Authorization: Bearer [redacted]" in pages[details[0]].text


COMMANDS = """
from django.core.management import call_command
for command in {commands}:
    print("==", *command)
    try:
        call_command(*command)
    except SystemExit as ended:
        print(ended)
"""


def test_no_command_prints_a_secret(gateway: Gateway, leads: dict[str, int]) -> None:
    """Run all commands in one process, which saves time."""
    delivered = str(leads["delivered"])
    commands = [
        ("doctor",),
        ("check", "--deploy"),
        ("lead_counts",),
        ("lead_history", delivered),
        ("requeue_stuck",),
        ("verify_audit_log",),
        ("export_person", "--phone", REFUSED_PHONE),
        ("redeliver", delivered, "--reason", "test", "--dry-run"),
    ]
    done = run_manage(gateway.env, "shell", "-v0", "-c", COMMANDS.format(commands=commands))

    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n==") + 1 == len(commands)
    assert_no_secret(done.stdout + done.stderr, "the terminal")


def test_no_failure_shows_a_secret(gateway: Gateway, leads: dict[str, int], staff: requests.Session) -> None:
    """Rename a table, which causes errors in the webhook and in the admin."""
    gateway.execute("ALTER TABLE lead_event RENAME TO lead_event_gone")
    try:
        answers = [
            gateway.post(payload(), X_Shared_Secret=SENDERS[0]),
            staff.get(f"{gateway.url}{LEADS}{leads['delivered']}/change/"),
        ]
    finally:
        gateway.execute("ALTER TABLE lead_event_gone RENAME TO lead_event")

    assert [answer.status_code for answer in answers] == [503, 500]
    for answer in answers:
        assert_no_secret(everything(answer), answer.url)
    assert "ProgrammingError" in gateway.logs("web")


def test_a_refused_start_prints_no_secret(gateway: Gateway) -> None:
    wrong = {"DATABASE_URL": f"mysql://root:{MARK}@localhost/x", "SECRET_KEY": MARK, "STATS_TOKEN": SENDERS[0]}

    done = run_manage(gateway.env | wrong, "check")

    assert done.returncode == 78
    assert_no_secret(done.stdout + done.stderr, "a refused start")


def test_no_log_has_a_secret(gateway: Gateway, leads: dict[str, int]) -> None:
    """Search the logs at LOG_LEVEL=debug. The fixture searches them again at the end of the module."""
    gateway.post(payload(), X_Shared_Secret=SENDERS[0] + "?")
    gateway.terminate("worker")
    for name in ("web", "worker", "beat"):
        assert '"level": "DEBUG"' in gateway.logs(name) or name == "beat"
        assert_no_secret(gateway.logs(name), f"{name}'s log")


def test_nothing_stored_has_a_secret(gateway: Gateway, redis: RedisServer, leads: dict[str, int]) -> None:
    url = f"postgresql://postgres@127.0.0.1:{gateway.env['DB_PORT']}/{gateway.env['DB_NAME']}"
    dump = subprocess.run([str(postgres_binary("pg_dump")), url], capture_output=True, text=True, check=True).stdout
    assert REFUSED_PHONE in dump
    assert_no_secret(dump, "a dump of the database")
    for file in gateway.directory.rglob("*"):
        if file.is_file():
            assert_no_secret(file.read_bytes().decode("latin-1"), str(file))
