from stats.management.check_command import CheckCommand
from stats.monitoring.checks.check import Consumer


class Command(CheckCommand):
    help = "Check everything the gateway needs, and show how to fix what is wrong. Exit code 1 if a check fails."
    consumer = Consumer.DOCTOR
