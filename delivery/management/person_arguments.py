"""The arguments that identify a person, and the search for that person."""

from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.utils.text import capfirst
from tqdm import tqdm

from delivery.management.preconditions import require_database
from delivery.privacy.person import InvalidPerson, Person
from delivery.privacy.person_search import Occurrences, find
from leads.models import InboundLead


def add_person(parser: CommandParser) -> None:
    """Add `--email` and `--phone`."""
    parser.add_argument("--email", metavar="ADDRESS", help="the person's email address")
    parser.add_argument(
        "--phone", metavar="NUMBER", help="the person's phone number; with --email, data with either is found"
    )


def search(options: dict[str, Any]) -> tuple[Person, Occurrences]:
    """Return the person that the arguments identify and where they occur. Show a progress bar meanwhile.

    :raises CommandError: the arguments identify no person, or the database is unavailable.
    """
    try:
        person = Person.from_contact(email=options["email"], phone=options["phone"])
    except InvalidPerson as error:
        raise CommandError(f"{capfirst(str(error))}.") from error
    require_database()
    with tqdm(total=InboundLead.objects.count(), desc="searching", unit=" leads", disable=None) as bar:
        return person, find(person, progress=bar.update)
