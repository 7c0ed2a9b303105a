import re
import uuid
from typing import Any

import pytest
from django.db import connection
from hypothesis import given
from hypothesis import strategies as st

from leads.models import InboundLead
from leads.normalization import search_keys
from leads.search import lead_id, matching
from tests import make

pytestmark = pytest.mark.django_db

ERIKA = {
    "first_name": "Erika",
    "last_name": "Mustermann",
    "email": "Erika.Mustermann@Example.com",
    "phone": "0151 12345678",
    "zipcode": "66111",
}
CORRELATION_ID = uuid.UUID("550e8400-e29b-41d4-a716-446655440000")


def lead_of(payload: dict[str, Any], **columns: Any) -> InboundLead:
    keys = {f"search_{name}": value for name, value in vars(search_keys(payload)).items()}
    return make.lead(raw_payload=payload, **{**keys, **columns})


def named(name: str) -> InboundLead:
    return lead_of(make.payload(name=name, phone=""))


def found(text: str) -> list[int]:
    return list(InboundLead.objects.filter(matching(text)).order_by("pk").values_list("pk", flat=True))


@pytest.mark.parametrize(
    "text",
    [
        *("0151/123 456-78", "+49 (0)151 12345678", " ERIKA.Mustermann@EXAMPLE.com ", " 66111 "),
        *("erika  mustermann", "MUSTERMANN Erika", "mustermann-erika"),
        *("550e8400-e29b-41d4-a716-446655440000", "550E8400E29B41D4A716446655440000", "550e8400", "550e8400-e29b"),
    ],
)
def test_a_lead_is_found_by_its_data_in_any_notation(text: str) -> None:
    lead = lead_of(ERIKA, correlation_id=CORRELATION_ID)
    lead_of(make.payload(name="Erik Mustermann", phone="0151 12345679"), correlation_id=uuid.uuid4())

    assert found(text) == [lead.pk]


@pytest.mark.parametrize("form", ["{}", "#{}", " {} "])
def test_a_lead_is_found_by_its_id(form: str) -> None:
    make.lead()
    lead = make.lead()

    assert found(form.format(lead.pk)) == [lead.pk]


@pytest.mark.parametrize(
    "text",
    [
        *("mustermann@example.com", "ustermann", "termann", "er", "e", "Erika Musterfrau", "%", "_rika", "rika"),
        *("0151 1234567", "0151 12345678 Erika", "550e840", "550e8400-e29b-41d4-a716-446655440001"),
        *("🙂", "'; DROP TABLE inbound_lead; --", "\ud800", "\0", "a\0b", "\\", "''", "erika & !x", ":*"),
        *("9" * 10, "9" * 5000, "a" * 100_000, "ab " * 10_000, "٣٤٥", "²", "", "  ", "\u200b"),
    ],
)
def test_other_texts_find_nothing(text: str) -> None:
    lead_of(ERIKA, correlation_id=CORRELATION_ID)

    assert found(text) == []


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("Erika Mustermann", "eri mus"),
        ("Erika Mustermann", "E. Mustermann"),
        ("Anna Müller-Lüdenscheid", "Müller-Lüdenscheid"),
        ("Anna Müller-Lüdenscheid", "Anna Müller Lüdenscheid"),
        ("Siobhan O'Neill", "neill"),
        ("Dr.Jürgen Groß", "jürgen"),
        ("Min Li", "LI min"),
        ("Zoë Ångström", "ångström zoë"),
        ("Иван Петров", "петров"),
    ],
)
def test_a_name_is_found_by_its_words_in_any_order_and_by_their_beginnings(name: str, text: str) -> None:
    lead = named(name)
    named("Linda Minor")

    assert found(text) == [lead.pk]


def test_a_word_of_two_letters_must_match_whole() -> None:
    named("Linda Lindner")

    assert found("li") == []


def test_all_leads_with_a_name_are_found() -> None:
    leads = [named(f"{first} Mustermann").pk for first in ("Erika", "Max")]
    named("Erika Musterfrau")
    make.lead(search_name=None)

    assert found("mustermann") == leads


@given(text=st.text(max_size=60))
def test_the_search_accepts_any_text(text: str) -> None:
    assert found(text) == []


@pytest.mark.needs_postgres
@pytest.mark.parametrize(
    ("text", "indexes"),
    [
        ("55008400", {"correlation", "phone", "zipcode"}),
        ("erika@example.com", {"email"}),
        ("mustermann erika", {"words"}),
    ],
)
def test_every_search_uses_an_index(text: str, indexes: set[str]) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off")  # an empty table would be scanned otherwise
    plan = InboundLead.objects.filter(matching(text)).explain()

    assert set(re.findall(r"idx_inbound_lead_(\w+)", plan)) == indexes
    assert "Seq Scan" not in plan


def test_a_lead_id_is_a_number_with_or_without_a_hash_sign() -> None:
    assert [lead_id(text) for text in ("#12", " 12 ", "12a", "-1", "٣", "")] == [12, 12, None, None, None, None]
