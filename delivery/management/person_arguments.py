"""What the commands about a person share: who it is, and the search for them."""

from typing import Any

from django.core.management.base import CommandError, CommandParser
from tqdm import tqdm

from delivery.management.preconditions import require_database
from delivery.privacy.person import NotAPerson, Person
from delivery.privacy.person_search import Found, find
from leads.models import InboundLead


def add_person(parser: CommandParser) -> None:
    """Add the arguments that say who it is."""
    parser.add_argument("--email", metavar="ADDRESS", help="the person's e-mail address")
    parser.add_argument("--phone", metavar="NUMBER", help="the person's phone number; with --email: whoever has either")


def search(options: dict[str, Any]) -> tuple[Person, Found]:
    """Return who was asked for and where they are, with a progress bar.

    :raises CommandError: there is no database, or nobody was asked for.
    """
    try:
        person = Person.known_by(email=options["email"], phone=options["phone"])
    except NotAPerson as error:
        raise CommandError(f"Who? {error}.") from error
    require_database()
    with tqdm(total=InboundLead.objects.count(), desc="searching", unit=" leads", disable=None) as bar:
        return person, find(person, progress=bar.update)
