import argparse
import re
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.template.defaultfilters import pluralize
from django.utils import timezone
from tqdm import tqdm

from leadgateway.env import parse_duration
from leads.audit.verification import Anchors, Head, VerifiedChain, all_chains, anchors_of, chains_since, check
from leads.models import AuditChainHead, InboundLead

_ANCHOR = re.compile(r"(?P<chain>\d+) (?P<events>\d+) (?P<hash>[0-9a-f]{64})", re.ASCII)


class Command(BaseCommand):
    help = (
        "Verify that no event in the audit log was changed, removed, inserted or moved. The events of each lead form a "
        "chain. Prints the first problem of each chain, and exits with 1 when there is one. Someone who can write to "
        "the database can also replace a whole chain: keep anchors elsewhere, and compare with them."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("lead_id", nargs="?", type=int, metavar="LEAD_ID", help="verify only this lead")
        parser.add_argument("--since", type=_duration, metavar="24h", help="verify only chains with recent events")
        parser.add_argument(
            "--anchor",
            action="store_true",
            help="print the head of each chain for --against; problems go to stderr",
        )
        parser.add_argument("--against", type=_anchors, metavar="FILE", help="compare with the output of --anchor")

    def handle(self, *args: Any, **options: Any) -> None:
        report = self.stderr if options["anchor"] else self.stdout
        verified = invalid = 0
        for chain in self._check(options):
            verified += 1
            if chain.problem:
                invalid += 1
                report.write(str(chain), style_func=str)
            elif options["anchor"] and chain.head:
                self.stdout.write(f"{chain.chain} {chain.head.events} {chain.head.hash}")
        report.write(f"{verified} chain{pluralize(verified)} verified, {invalid} invalid.", style_func=str)
        if invalid:
            sys.exit(1)

    def _check(self, options: dict[str, Any]) -> Iterator[VerifiedChain]:
        anchors = anchors_of(options["against"]) if options["against"] else Anchors()
        chains = _selected(options, anchors)
        with tqdm(total=len(chains), desc="verifying", unit=" chains", disable=None) as bar:
            yield from check(chains, anchors=anchors, progress=bar.update)


def _selected(options: dict[str, Any], anchors: Anchors) -> list[int]:
    if options["lead_id"] is not None and options["since"] is not None:
        raise CommandError("Give either a lead id or --since.")
    if options["lead_id"] is not None:
        return [_existing(options["lead_id"])]
    if options["since"] is not None:
        return chains_since(timezone.now() - options["since"])
    return all_chains(anchors)


def _existing(lead_id: int) -> int:
    """Return the id of a lead that exists or has existed.

    :raises CommandError: there is no such lead.
    """
    if InboundLead.objects.filter(pk=lead_id).exists() or AuditChainHead.objects.filter(chain=lead_id).exists():
        return lead_id
    raise CommandError(f"There is no lead {lead_id}.")


def _duration(text: str) -> timedelta:
    try:
        return parse_duration(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not a duration such as 30m or 24h") from error


def _anchors(name: str) -> dict[int, Head]:
    try:
        lines = Path(name).read_text().splitlines()
    except (OSError, UnicodeError) as error:
        raise argparse.ArgumentTypeError(f"{name} cannot be read") from error
    found = [_ANCHOR.fullmatch(line) for line in lines]
    if not found or None in found:
        raise argparse.ArgumentTypeError(f"{name} is not an output of --anchor")
    return {int(line["chain"]): Head(int(line["events"]), line["hash"]) for line in found if line}
