import json
from typing import Any

from django.core.management.base import BaseCommand, CommandParser
from django.core.serializers.json import DjangoJSONEncoder
from django.utils import timezone

from delivery.management.arguments import actor
from delivery.management.person_arguments import add_person, search
from delivery.privacy.export import everything_about
from leads.audit.number_ranges import in_ranges
from leads.audit.recording import record_system_event
from leads.models import EventKind


class Command(BaseCommand):
    help = (
        "Print everything that is stored about a person as JSON, who of the staff had it shown, and when it was sent "
        "to the customer: PERSONAL DATA. That it was exported is in the trail."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        add_person(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        person, found = search(options)
        now = timezone.now()
        told = {"exported_at": now, **everything_about(person, found)}
        detail = {"leads": in_ranges(found.theirs), "leads_of_others": in_ranges(found.others)}
        record_system_event(EventKind.PERSON_EXPORTED, actor=actor(), now=now, detail=detail)
        self.stdout.write(json.dumps(told, cls=DjangoJSONEncoder, ensure_ascii=False, indent=2))
