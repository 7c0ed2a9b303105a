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
from leads.audit.verification import Anchors, Checked, Head, all_chains, anchors_of, chains_since, check
from leads.models import AuditChainHead, InboundLead

_ANCHOR = re.compile(r"(?P<chain>\d+) (?P<events>\d+) (?P<hash>[0-9a-f]{64})", re.ASCII)


class Command(BaseCommand):
    help = (
        "Prove that nothing in the trail was changed, removed, inserted or moved: names the first broken link of each "
        "lead, and ends with 1 when there is one. Whoever can write to the database can also forge a whole chain "
        "anew; keep anchors elsewhere and compare with them."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("lead_id", nargs="?", type=int, metavar="LEAD_ID", help="only the trail of this lead")
        parser.add_argument("--since", type=_duration, metavar="24h", help="only trails that have grown since then")
        parser.add_argument(
            "--anchor", action="store_true", help="print where each trail ends, for --against; what is broken to stderr"
        )
        parser.add_argument("--against", type=_anchors, metavar="FILE", help="compare with what --anchor once printed")

    def handle(self, *args: Any, **options: Any) -> None:
        report = self.stderr if options["anchor"] else self.stdout
        checked = broken = 0
        for one in self._check(options):
            checked += 1
            if one.problem:
                broken += 1
                report.write(str(one), style_func=str)
            elif options["anchor"] and one.head:
                self.stdout.write(f"{one.chain} {one.head.events} {one.head.hash}")
        report.write(f"{checked} trail{pluralize(checked)} checked, {broken} broken.", style_func=str)
        if broken:
            sys.exit(1)

    def _check(self, options: dict[str, Any]) -> Iterator[Checked]:
        anchors = anchors_of(options["against"]) if options["against"] else Anchors()
        chains = _chosen(options, anchors)
        with tqdm(total=len(chains), desc="checking", unit=" trails", disable=None) as bar:
            yield from check(chains, anchors=anchors, progress=bar.update)


def _chosen(options: dict[str, Any], anchors: Anchors) -> list[int]:
    if options["lead_id"] is not None and options["since"] is not None:
        raise CommandError("Give either the number of a lead or --since.")
    if options["lead_id"] is not None:
        return [_known(options["lead_id"])]
    if options["since"] is not None:
        return chains_since(timezone.now() - options["since"])
    return all_chains(anchors)


def _known(lead_id: int) -> int:
    """Return the number of a lead that is there, or was.

    :raises CommandError: there is none.
    """
    if InboundLead.objects.filter(pk=lead_id).exists() or AuditChainHead.objects.filter(chain=lead_id).exists():
        return lead_id
    raise CommandError(f"There is no lead {lead_id}.")


def _duration(text: str) -> timedelta:
    try:
        return parse_duration(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no duration such as 30m or 24h") from error


def _anchors(name: str) -> dict[int, Head]:
    try:
        lines = Path(name).read_text().splitlines()
    except (OSError, UnicodeError) as error:
        raise argparse.ArgumentTypeError(f"{name} cannot be read") from error
    found = [_ANCHOR.fullmatch(line) for line in lines]
    if not found or None in found:
        raise argparse.ArgumentTypeError(f"{name} is not what --anchor printed")
    return {int(line["chain"]): Head(int(line["events"]), line["hash"]) for line in found if line}
