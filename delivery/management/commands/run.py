import http.client
import os
import secrets
import shlex
import socket
import sys
import sysconfig
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError, connection
from honcho.environ import parse_procfile
from honcho.printer import Message

from delivery.foreground import Foreground, Printer, free_port, port_problem
from delivery.management.preconditions import require_database, require_queue
from leadgateway import dependencies

DEMO_HOST, DEMO_PORT = "127.0.0.1", 8081
ADMIN = "admin"

#: Celery's advice for servers that root should not run a worker: here, where all is tried out, it only frightens.
CALM = "ignore:You're running the worker with superuser privileges"

#: Time for gunicorn and the worker to stop after the last delivery under way has ended.
STOP_MARGIN = timedelta(seconds=10)

#: How long the API may take to answer before we say that it has not; on a loaded machine imports take seconds.
SLOW_START_S = 60

BANNER = """
================================================================================
Lead Gateway is running.  Stop it with Ctrl-C.

  API       {url}
  Admin     {url}/admin/
            {login}
  Database  {database}
  Queue     {queue}
  Customer  {customer}

Send it a lead:

  curl -X POST {url}/webhooks/leads \\
    -H "Content-Type: application/json" \\{secret}
    -d '{{
      "email": "test@example.com",
      "phone": "+49123456789",
      "zipcode": "66123",
      "house": {{
        "is_owner": true
      }}
    }}'

The same lead again is recognised as a duplicate: change the e-mail for another.
================================================================================
"""


class Command(BaseCommand):
    help = "Bring everything up in the foreground: migrate, then web, worker, beat and, unless set, a demo customer."

    def handle(self, *args: Any, **options: Any) -> None:
        self._refuse_what_cannot_work()
        self._migrate()
        self._printer = Printer(sys.stdout)
        self._demo_url = _demo_url()
        self._manager = self._prepare()
        self._manager.loop()
        if self._manager.died is not None:
            raise CommandError(f"{self._manager.died[0]} stopped by itself, so everything was stopped.")
        self._printer.announce("Stopped.")

    # --- before anything starts ---

    def _refuse_what_cannot_work(self) -> None:
        if problem := port_problem(settings.API_HOST, settings.API_PORT):
            raise CommandError(
                f"The API cannot listen on {settings.API_HOST}:{settings.API_PORT}: {problem}.\n"
                f"Stop what uses the port, or choose another: API_PORT={settings.API_PORT + 1} make run"
            )
        require_database()
        require_queue()

    def _migrate(self) -> None:
        self.stdout.write("Bringing the database up to date ...")
        try:
            call_command("migrate", interactive=False, verbosity=0)
        except DatabaseError as error:
            raise CommandError(f"The database could not be brought up to date: {dependencies.reason(error)}") from error
        _let_go_of_the_database()

    def _prepare(self) -> Foreground:
        timeout = settings.CUSTOMER_API_TIMEOUT + STOP_MARGIN
        manager = Foreground(self._printer, timeout=timeout, when_started=self._welcome)
        environment = _environment(self._demo_url)
        for name, command in _commands(self._demo_url):
            # exec: the shell between would hide how the process ended.
            manager.add_process(name, f"exec {command}", env=environment, cwd=str(settings.BASE_DIR))
        return manager

    # --- while it runs ---

    def _welcome(self) -> None:
        if _true_within(SLOW_START_S, _answers):
            if demo_url := self._demo_url:  # the newcomer's first lead must not find the demo customer's door closed
                _true_within(SLOW_START_S, lambda: _listens(demo_url))
            self._say(self._banner())
        else:
            self._say(f"\n{_url()}/health has not answered for {SLOW_START_S} s; the lines above may say why.\n")

    def _say(self, text: str) -> None:
        """Print between the processes' lines, never in the middle of one."""
        self._manager.events.put(Message(type="line", data=text, time=None, name=None, colour=None))

    def _banner(self) -> str:
        return BANNER.format(
            url=_url(),
            login=_login(),
            database=dependencies.database_name(),
            queue=dependencies.queue_name(),
            customer=_customer_line(self._demo_url),
            secret='\n    -H "X-Shared-Secret: $SHARED_SECRET" \\' if settings.ENABLE_AUTH else "",
        )


def _is_set(name: str) -> bool:
    """Tell whether the environment or .env, which the settings have read into it, gives a value."""
    return bool(os.environ.get(name, "").strip() or os.environ.get(f"{name}_FILE"))


def _demo_url() -> str | None:
    if _is_set("CUSTOMER_API_URL"):
        return None
    return f"http://{DEMO_HOST}:{free_port(DEMO_HOST, DEMO_PORT)}/lead/receive/"


def _commands(demo_url: str | None) -> Iterator[tuple[str, str]]:
    """Yield the name and command line of every process: the Procfile's, and the demo customer."""
    if demo_url:
        port = demo_url.split(":")[2].partition("/")[0]
        yield "customer", f"{_python()} manage.py fake_customer_api --host {DEMO_HOST} --port {port}"
    yield from parse_procfile((settings.BASE_DIR / "Procfile").read_text()).processes.items()


def _environment(demo_url: str | None) -> dict[str, str]:
    environment = os.environ | {
        "PATH": os.pathsep.join([sysconfig.get_path("scripts"), os.environ.get("PATH", os.defpath)]),
        "PYTHONUNBUFFERED": "1",
        "PYTHONWARNINGS": ",".join(filter(None, [os.environ.get("PYTHONWARNINGS"), CALM])),
    }
    if not _is_set("LOG_FORMAT"):
        environment["LOG_FORMAT"] = "text"
    if demo_url:
        environment["CUSTOMER_API_URL"] = demo_url
    return environment


def _let_go_of_the_database() -> None:
    """Close what must not be shared with the processes that are about to be forked, the pool's threads above all."""
    connection.close()
    if connection.vendor == "postgresql":
        connection.close_pool()  # type: ignore[attr-defined]


def _true_within(seconds: float, condition: Callable[[], bool]) -> bool:
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        if condition():
            return True
        time.sleep(0.2)
    return False


def _listens(url: str) -> bool:
    parts = urlsplit(url)
    try:
        socket.create_connection((parts.hostname, parts.port), timeout=1).close()
    except OSError:
        return False
    return True


def _answers() -> bool:
    """Tell whether /health answers; a refusal of our Host by ALLOWED_HOSTS is an answer, too."""
    api = http.client.HTTPConnection(_host(), settings.API_PORT, timeout=5)
    try:
        api.request("GET", "/health", headers={"Connection": "close"})
        return api.getresponse().status < 500
    except (OSError, http.client.HTTPException):
        return False
    finally:
        api.close()


def _host() -> str:
    return "localhost" if settings.API_HOST in ("0.0.0.0", "::", "*") else settings.API_HOST  # noqa: S104


def _url() -> str:
    return f"http://{_host()}:{settings.API_PORT}"


def _python() -> str:
    """Return this Python as one would type it in the checkout."""
    return shlex.quote(dependencies.shown_path(Path(sys.executable)))


def _login() -> str:
    """Say how to sign in; on the first run that makes the admin user."""
    renew = f"{_python()} manage.py changepassword"
    users = get_user_model()._default_manager
    try:
        if first := users.filter(is_superuser=True).order_by("pk").first():
            return f"user {first.get_username()}; a new password:\n            {renew} {first.get_username()}"
        if users.filter(username=ADMIN).exists():
            return f"no superuser yet: {_python()} manage.py createsuperuser"
        password = secrets.token_urlsafe(12)
        users.create_superuser(ADMIN, password=password)
    except DatabaseError as error:
        return f"no user could be looked up: {dependencies.reason(error)}"
    finally:
        connection.close()
    return f"user {ADMIN}, password {password}  (shown only now; a new one:\n            {renew} {ADMIN})"


def _customer_line(demo_url: str | None) -> str:
    if demo_url is None:
        # Its path and query may tell who we are to the customer.
        parts = urlsplit(settings.CUSTOMER_API_URL)
        return f"{parts.scheme}://{parts.netloc} (CUSTOMER_API_URL)"
    return f'{demo_url}\n            a demo; what it gets appears below as "customer | ..."'
