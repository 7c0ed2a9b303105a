"""All checks, in the order in which they run and are shown.

To add one, write a function that yields results in the module of its subject, add it to the module's `CHECKS`, and add
its sentences to `stats.text.checks`. A check that can open an incident belongs in `stats.monitoring.checks.pipeline`.
"""

from stats.monitoring import pipeline_check
from stats.monitoring.checks import customer, database, installation, queue, schema
from stats.monitoring.checks.check import Check, Consumer

CHECKS: tuple[Check, ...] = (
    *installation.CHECKS,
    *database.CHECKS,
    *queue.CHECKS,
    *schema.CHECKS,
    *customer.CHECKS,
    Check("pipeline", pipeline_check.status, used_by=Consumer.DOCTOR | Consumer.PIPELINE_STATUS),
)


def checks_for(consumer: Consumer) -> list[Check]:
    """Return the checks whose results a consumer shows."""
    return [check for check in CHECKS if consumer in check.used_by]
