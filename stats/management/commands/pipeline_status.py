from stats.management.check_command import CheckCommand
from stats.monitoring.checks.check import Consumer


class Command(CheckCommand):
    help = "Show whether leads are accepted and delivered right now, by the rules of the alerts. Exit code 1 if not."
    consumer = Consumer.PIPELINE_STATUS
    time_limit_s = 10.0  # an unresponsive database is reported after its time-out
