"""The Celery application. A message only wakes a worker up: which leads are due is in the database.

Pinned below 5.7: the workers of Celery 5.7.0 exit when Redis restarts while they hold a countdown.
"""

import os

from celery import Celery, Task
from celery.signals import beat_init, setup_logging, task_failure, task_retry, worker_init
from kombu.transport import TRANSPORT_ALIASES

from leadgateway import tracing
from leadgateway.logging import get_logger
from leadgateway.startup import check_configuration, load_settings

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "leadgateway.settings")
load_settings()

TRANSPORT_ALIASES["files"] = "leadgateway.queue.filesystem:Transport"

app = Celery("leadgateway")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()

log = get_logger(__name__)


@setup_logging.connect
def _keep_logging_configuration(**_: object) -> None:
    """Do nothing. A receiver of this signal keeps Celery from configuring logging, which Django has done already."""


@worker_init.connect
@beat_init.connect
def _check_configuration(**_: object) -> None:
    check_configuration()


@worker_init.connect
def _start_tracing(**_: object) -> None:
    tracing.start()


@task_failure.connect
def _log_failure(sender: "Task[..., None]", exception: BaseException, **_: object) -> None:
    log.error("task_failed", task=sender.name, exc_info=exception)


@task_retry.connect
def _log_retry(sender: "Task[..., None]", reason: BaseException, **_: object) -> None:
    log.warning("task_retried", task=sender.name, reason=type(reason).__name__)
