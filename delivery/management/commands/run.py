import os
import secrets
import shlex
import signal
import socket
import sys
import sysconfig
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import honcho.command
from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError, connection

from delivery.management.preconditions import require_database, require_queue
from leadgateway import dependencies

DEMO_HOST, DEMO_PORT = "127.0.0.1", 8081
ADMIN = "admin"

#: The exit codes after Ctrl-C and after SIGTERM, also those of honcho.
STOPPED_BY_SIGINT, STOPPED_BY_SIGTERM = 130, 143

#: Celery warns against running a worker as root. On a developer's machine the warning does not help.
HIDDEN_WARNING = "ignore:You're running the worker with superuser privileges"

BANNER = """
================================================================================
Lead Gateway is starting.  Stop it with Ctrl-C.

  API       {url}
  Admin     {url}/admin/
            {login}
  Database  {database}
  Queue     {queue}
  Customer  {customer}

Send a lead:

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

The same lead again is a duplicate. Change the e-mail address to send another.
================================================================================
"""


class Command(BaseCommand):
    help = (
        "Run the gateway on this machine: migrate, create the first admin user, then start web, worker, beat and, "
        "unless CUSTOMER_API_URL is set, a demo Customer API with honcho (Procfile.dev)."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        # Until honcho handles Ctrl-C. A KeyboardInterrupt would get lost in a finalizer, or print a traceback.
        signal.signal(signal.SIGINT, lambda *_: os._exit(STOPPED_BY_SIGINT))
        self._check_preconditions()
        self._migrate()
        demo_port = None if _is_set("CUSTOMER_API_URL") else _free_port(DEMO_HOST, DEMO_PORT)
        demo_url = f"http://{DEMO_HOST}:{demo_port}/lead/receive/" if demo_port else None
        self.stdout.write(_banner(demo_url))
        self.stdout.flush()
        _close_database_connections()
        _set_environment(demo_port, demo_url)
        self._start([*(["customer"] if demo_url else []), "web", "worker", "beat"])

    def _check_preconditions(self) -> None:
        if problem := _port_problem(settings.API_HOST, settings.API_PORT):
            raise CommandError(
                f"The API cannot listen on {settings.API_HOST}:{settings.API_PORT}: {problem}.\n"
                f"Stop the program that uses the port, or choose another: API_PORT={settings.API_PORT + 1} make run"
            )
        require_database()
        require_queue()

    def _migrate(self) -> None:
        self.stdout.write("Migrating the database ...")
        self.stdout.flush()
        try:
            call_command("migrate", interactive=False, verbosity=0)
        except DatabaseError as error:
            raise CommandError(f"The migration failed: {dependencies.reason(error)}") from error

    def _start(self, processes: list[str]) -> None:
        """Run the processes until a signal stops them.

        :raises CommandError: when a process stops unexpectedly. honcho then stops the others.
        """
        # honcho stops its processes after SIGINT and SIGTERM, but not after the terminal is closed.
        signal.signal(signal.SIGHUP, lambda *_: signal.raise_signal(signal.SIGTERM))
        try:
            # No --env: Django reads .env itself, by other rules than honcho.
            honcho.command.main(["start", "--procfile", "Procfile.dev", "--env", os.devnull, *processes])
        except SystemExit as end:
            if end.code not in (STOPPED_BY_SIGINT, STOPPED_BY_SIGTERM):
                raise CommandError("A process stopped unexpectedly (see above), so the others were stopped.") from None
        self.stdout.write("Stopped.")


def _is_set(name: str) -> bool:
    """Return whether the environment, which includes .env once the settings are loaded, has a value."""
    return bool(os.environ.get(name, "").strip() or os.environ.get(f"{name}_FILE"))


def _close_database_connections() -> None:
    """Close the connection and stop the pool's threads, because honcho forks this process."""
    connection.close()
    if connection.vendor == "postgresql":
        connection.close_pool()  # type: ignore[attr-defined]


def _set_environment(demo_port: int | None, demo_url: str | None) -> None:
    """Set what the processes of Procfile.dev inherit."""
    os.chdir(settings.BASE_DIR)
    os.environ |= {
        "PATH": os.pathsep.join([sysconfig.get_path("scripts"), os.environ.get("PATH", os.defpath)]),
        "PYTHONUNBUFFERED": "1",
        "PYTHONWARNINGS": ",".join(filter(None, [os.environ.get("PYTHONWARNINGS"), HIDDEN_WARNING])),
    }
    if not _is_set("LOG_FORMAT"):
        os.environ["LOG_FORMAT"] = "text"
    if demo_url:
        os.environ |= {"CUSTOMER_API_URL": demo_url, "DEMO_CUSTOMER_PORT": str(demo_port)}


# --- ports -----------------------------------------------------------------------------------------------------------


def _port_problem(host: str, port: int) -> str | None:
    """Return why no program can listen on the address, None when one can."""
    try:
        addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, _, _, address = addresses[0]
        with closing(socket.socket(family, kind)) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        return str(error.strerror or error).lower()
    return None


def _free_port(host: str, preferred: int) -> int:
    """Return the preferred port when it is free, otherwise another one."""
    if _port_problem(host, preferred) is None:
        return preferred
    with closing(socket.socket()) as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


# --- the banner ------------------------------------------------------------------------------------------------------


def _banner(demo_url: str | None) -> str:
    return BANNER.format(
        url=_api_url(),
        login=_login(),
        database=dependencies.database_name(),
        queue=dependencies.queue_name(),
        customer=_customer(demo_url),
        secret='\n    -H "X-Shared-Secret: $SHARED_SECRET" \\' if settings.ENABLE_AUTH else "",
    )


def _api_url() -> str:
    all_interfaces = ("0.0.0.0", "::", "*")  # noqa: S104
    host = "localhost" if settings.API_HOST in all_interfaces else settings.API_HOST
    return f"http://{host}:{settings.API_PORT}"


def _login() -> str:
    """Return how to sign in to the admin. The first run creates the user and shows its password."""
    python = shlex.quote(dependencies.shown_path(Path(sys.executable)))
    users = get_user_model()._default_manager
    if admin := users.filter(is_superuser=True).order_by("pk").first():
        name = admin.get_username()
        return f"user {name}; a new password:\n            {python} manage.py changepassword {name}"
    if users.filter(username=ADMIN).exists():
        return f"no superuser yet: {python} manage.py createsuperuser"
    password = secrets.token_urlsafe(12)
    users.create_superuser(ADMIN, password=password)
    return (
        f"user {ADMIN}, password {password} (shown only once; a new one:\n"
        f"            {python} manage.py changepassword {ADMIN})"
    )


def _customer(demo_url: str | None) -> str:
    if demo_url is None:
        # The path and the query can contain credentials.
        parts = urlsplit(settings.CUSTOMER_API_URL)
        return f"{parts.scheme}://{parts.netloc} (CUSTOMER_API_URL)"
    return f'{demo_url}\n            a demo: the leads it receives appear below as "customer.1 | ..."'
