"""gunicorn's settings: `gunicorn -c python:leadgateway.server.config leadgateway.asgi`.

SIGUSR2 starts a new version of the code on the same socket; when it is ready, the old server stops. SIGHUP only
restarts the workers of the running version, because this process loads the code before it forks.
"""

import os
import resource
import shutil
import socket
from contextlib import suppress
from pathlib import Path

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "leadgateway.settings")

from leadgateway.startup import check_configuration, load_settings

load_settings()

from django.conf import settings  # noqa: E402

bind = f"{settings.API_HOST}:{settings.API_PORT}"
workers = settings.WEB_PROCESSES
worker_class = "leadgateway.server.worker.WebWorker"
timeout = 30
graceful_timeout = 25
keepalive = 65  # longer than the idle timeout of common proxies (60 s), so that the proxy closes first
worker_tmp_dir = "/dev/shm" if os.path.isdir("/dev/shm") else None  # noqa: S108 (heartbeat file; must not wait for a disk)
control_socket_disable = True  # not used, and gunicorn would create it in the user's home
accesslog = None  # RequestContext logs each response with the lead's ids
logconfig_dict = {
    **settings.LOGGING,
    "loggers": {**settings.LOGGING["loggers"], "gunicorn.error": {"handlers": [], "propagate": True}},
}


def on_starting(_server: object) -> None:
    """Check the configuration and create the directory for metrics before any worker is forked."""
    import django

    _create_metrics_directory()
    _allow_connections()
    django.setup()
    check_configuration()


def on_exit(_server: object) -> None:
    """Remove the metrics of this server. After SIGKILL, the next start removes them."""
    shutil.rmtree(_metrics_directory(os.getpid()), ignore_errors=True)


def _allow_connections() -> None:
    """Raise the number of open files, which limits that of connections, to what the system allows."""
    _, allowed = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, allowed))


def _create_metrics_directory() -> None:
    """Create the directory that the web processes share, and set prometheus_client's variable before its import."""
    for left in _metrics_directory("*").parent.glob(_metrics_directory("*").name):
        if not _is_running(int(left.name.rpartition("-")[2])):
            shutil.rmtree(left, ignore_errors=True)
    ours = _metrics_directory(os.getpid())
    ours.mkdir(parents=True, exist_ok=True)
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(ours)


def _metrics_directory(pid: int | str) -> Path:
    """Return the directory of one server. Servers of several containers may share a VAR_DIR."""
    parent: Path = settings.VAR_DIR / "metrics"
    return parent / f"{socket.gethostname()}-{pid}"


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return pid != os.getpid()  # our own: left by an earlier server, since in a container every server has pid 1


def post_worker_init(_worker: object) -> None:
    """Do what would slow down the first request: import the code, and connect to database and queue."""
    from django.db import connection
    from django.urls import resolve

    from leadgateway import queue, tracing
    from leadgateway.request import WEBHOOK_PATH

    tracing.start()
    if pool := getattr(connection, "pool", None):
        pool.timeout = settings.DATABASE_TIMEOUT.total_seconds()  # the pool's own timeout is that of the worker
        pool.open()
    resolve(WEBHOOK_PATH)
    with suppress(queue.QueueUnavailable):
        queue.depth()
