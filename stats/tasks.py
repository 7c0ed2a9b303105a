"""What has to be done again and again for the sake of reading."""

from typing import Any

from celery import shared_task
from django.utils import timezone

from stats import totals


@shared_task(name="keep_tally", ignore_result=True)
def keep_tally(**_: Any) -> None:
    """Count for the metrics what they need not count anew each time."""
    totals.fold(at=timezone.now())
    totals.count_closed()
