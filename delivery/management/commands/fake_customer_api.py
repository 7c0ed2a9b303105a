import argparse
import signal
import threading
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser, DjangoHelpFormatter

from delivery import demo_customer
from delivery.demo_customer import DemoCustomer

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class TableFormatter(DjangoHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Keep the line breaks of the description: it contains tables."""


class Command(BaseCommand):
    help = demo_customer.__doc__ or ""
    # The demo needs no database, and should start quickly.
    requires_system_checks = []

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> CommandParser:
        return super().create_parser(prog_name, subcommand, formatter_class=TableFormatter, **kwargs)

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1)")
        parser.add_argument(
            "--port", type=int, default=8081, help="port to listen on (default: 8081); 0 for a free one"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            customer = DemoCustomer(options["host"], options["port"], log=self._print)
        except (OSError, OverflowError) as error:
            raise CommandError(f"The demo Customer API cannot start: {error}") from error
        # Waiting for the signal, instead of an exception from its handler: an exception can get lost in a finalizer.
        signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
        threading.Thread(target=customer.serve_forever, daemon=True).start()
        self._print(f"Demo Customer API listening on {customer.url}")
        signal.sigwait(STOP_SIGNALS)

    def _print(self, line: str) -> None:
        # One write for line and line break, because requests are handled in threads.
        self.stdout.write(f"{line}\n", ending="")
        self.stdout.flush()
