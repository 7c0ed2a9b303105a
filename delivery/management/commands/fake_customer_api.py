import argparse
import signal
import threading
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser, DjangoHelpFormatter

from delivery import demo_customer
from delivery.demo_customer import DemoCustomer, parse_duration

STOP_SIGNALS = {signal.SIGTERM, signal.SIGINT}


class TableFormatter(DjangoHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Keep the line breaks of the description: it holds the tables of modes and numbers."""


class Command(BaseCommand):
    help = demo_customer.__doc__ or ""
    # It needs neither database nor configuration, and must be ready quickly.
    requires_system_checks = []

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> CommandParser:
        return super().create_parser(prog_name, subcommand, formatter_class=TableFormatter, **kwargs)

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--host", default="127.0.0.1", help="address to listen on (127.0.0.1)")
        parser.add_argument("--port", type=int, default=8081, help="port to listen on (8081); 0 takes a free one")
        parser.add_argument("--token", help="bearer token every lead must carry; without it any is taken")
        parser.add_argument("--ledger", metavar="FILE", help="append the ledger to this file; read back at the start")
        parser.add_argument("--fail-rate", type=_share, default=0.0, metavar="0.2", help="share of random failures")
        parser.add_argument("--seed", type=int, help="makes the random failures repeatable; printed at the start")
        parser.add_argument("--delay", type=_seconds, default=0.0, metavar="50ms", help="wait before every answer")

    def handle(self, *args: Any, **options: Any) -> None:
        # Blocked before any thread starts, so that every thread inherits it and only sigwait takes them.
        signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
        try:
            customer = self._customer(options).start()
        except (OSError, ValueError) as error:
            raise CommandError(f"cannot start the demo Customer API: {error}") from error
        chaos = f" ({options['fail_rate']:.0%} of requests fail, seed {customer.seed})" if options["fail_rate"] else ""
        self._print(f"Demo Customer API listening on {customer.url}{chaos}")
        signal.sigwait(STOP_SIGNALS)
        customer.stop()

    def _customer(self, options: dict[str, Any]) -> DemoCustomer:
        names = ("host", "port", "token", "ledger", "fail_rate", "seed", "delay")
        self._printing = threading.Lock()
        return DemoCustomer(**{name: options[name] for name in names}, announce=self._print)

    def _print(self, line: str) -> None:
        with self._printing:
            self.stdout.write(line)
            self.stdout.flush()


def _share(text: str) -> float:
    share = float(text)
    if not 0 <= share <= 1:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 1")
    return share


def _seconds(text: str) -> float:
    try:
        return parse_duration(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
