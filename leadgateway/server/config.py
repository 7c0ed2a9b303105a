"""gunicorn's settings: `gunicorn -c python:leadgateway.server.config leadgateway.wsgi`.

SIGUSR2 starts a new version beside the old one, on the same socket; when it can serve, the old one ends. SIGHUP starts
the same version anew: this process has loaded the code before it forks.
"""

import json
import os
import shutil
import signal
import socket
from contextlib import suppress
from pathlib import Path
from typing import Any

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "leadgateway.settings")

from leadgateway.startup import check_configuration, load_settings

load_settings()

import gunicorn.systemd  # noqa: E402
import gunicorn.util  # noqa: E402
from django.conf import settings  # noqa: E402

bind = f"{settings.API_HOST}:{settings.API_PORT}"
workers = settings.WEB_PROCESSES
worker_class = "leadgateway.server.worker.DeadlineWorker"
worker_connections = 1000
threads = settings.WEB_THREADS
timeout = 30
graceful_timeout = 25
keepalive = 65  # longer than the idle time-out of the usual proxies (60 s), so that they close first
limit_request_line = 4094
limit_request_field_size = 8190
limit_request_fields = 100
worker_tmp_dir = "/dev/shm" if os.path.isdir("/dev/shm") else None  # noqa: S108 (a heartbeat file; must not wait for a disk)
control_socket_disable = True  # nobody uses it, and it would be written to the user's home
accesslog = None  # the request middleware writes the line, with the lead's ids
logconfig_dict = {
    **settings.LOGGING,
    "loggers": {**settings.LOGGING["loggers"], "gunicorn.error": {"handlers": [], "propagate": True}},
}


def on_starting(_server: Any) -> None:
    """Refuse a bad configuration before any worker is forked, and make the place for what the workers measure."""
    import django

    _measure_together()
    django.setup()
    check_configuration()


def on_exit(_server: Any) -> None:
    """Remove what the workers have measured; after a kill the next start does."""
    shutil.rmtree(_measurements(os.getpid()), ignore_errors=True)


def _measure_together() -> None:
    """Have the processes measure into a directory of this server's own, which prometheus_client finds when imported."""
    for left in _measurements("*").parent.glob(_measurements("*").name):
        if not _lives(int(left.name.rpartition("-")[2])):
            shutil.rmtree(left, ignore_errors=True)
    ours = _measurements(os.getpid())
    ours.mkdir(parents=True, exist_ok=True)
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(ours)


def _measurements(pid: int | str) -> Path:
    """Return the directory of a server: one VAR_DIR may be shared by several, of several containers."""
    home: Path = settings.VAR_DIR / "metrics"
    return home / f"{socket.gethostname()}-{pid}"


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return pid != os.getpid()  # ours now; in a container every server's is 1


def post_worker_init(worker: Any) -> None:
    """Do before the first request what would make it a slow one: imports, connections to database and queue.

    And have this process watch, too: it may be the last that lives.
    """
    from django.db import connection
    from django.urls import resolve
    from django.utils.module_loading import import_string

    from leadgateway import queue, tracing

    tracing.start()
    if pool := getattr(connection, "pool", None):
        pool.timeout = settings.DATABASE_TIMEOUT.total_seconds()  # its own default suits the worker
        pool.open()
    resolve("/webhooks/leads")
    with suppress(queue.QueueUnavailable):
        queue.depth()
    import_string("stats.monitoring.monitor_thread.start")()  # by name, as the wiring knows none of the rooms
    if worker.age >= workers:
        _relieve_the_old_server(worker)


def _relieve_the_old_server(worker: Any) -> None:
    """End the server that SIGUSR2 had start this one, now that the last of our workers is ready.

    One that cannot start never comes here, and the old one goes on.
    """
    if old := os.environ.get("GUNICORN_PID"):  # gunicorn removes it when the old one is gone
        gunicorn.systemd.sd_notify(f"MAINPID={worker.ppid}", worker.log)  # else systemd would take the end for ours
        with suppress(ProcessLookupError):
            os.kill(int(old), signal.SIGTERM)


def _write_error(sock: socket.socket, status: int, reason: str, _message: str) -> None:
    """Answer what is not HTTP, and so never reaches Django, in the one shape of our errors; gunicorn's own is HTML."""
    body = json.dumps({"error": reason.lower(), "correlation_id": None})
    head = f"HTTP/1.1 {status} {reason}\r\nConnection: close\r\nContent-Type: application/json\r\n"
    gunicorn.util.write_nonblock(sock, f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode("latin-1"))


gunicorn.util.write_error = _write_error
