import json
import random
import sys
import time
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from leads.storable_text import clean_text
from leads.webhook import strict_json
from leads.webhook.intake import payload_hash
from leads.webhook.strict_json import MalformedJSON, parse_object

BOM = b"\xef\xbb\xbf"
LEAD = {
    "email": "jörg.müller@example.com",
    "phone": "0151 / 123 456 78",
    "zipcode": "66123",
    "house": {"is_owner": True, "floors": [1, 2.5, -3e2, None, False]},
    "comment": 'Zeile 1\nZeile 2 "in Anführungszeichen" \\ 🏠',
}
LEAD_BODY = json.dumps(LEAD, ensure_ascii=False).encode()
ESCAPED_LEAD_BODY = json.dumps(LEAD).encode()


def refusal(body: bytes) -> str:
    with pytest.raises(MalformedJSON) as refused:
        parse_object(body)
    return str(refused.value)


def nested(depth: int, opening: str = "[", closing: str = "]") -> bytes:
    """Return an object that is nested `depth` deep, itself included."""
    return f'{{"a":{opening * (depth - 1)}1{closing * (depth - 1)}}}'.encode()


# --- accepted --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        *(LEAD_BODY, ESCAPED_LEAD_BODY, BOM + LEAD_BODY, b" \t\r\n" + LEAD_BODY + b"\n ", b"{}", b'{"":""}'),
        '{"a":"\x7f\x80\u2028\u2029\ufeff\ufffe\U0010ffff"}'.encode(),
        rb'{"a":"\"\\\/\b\f\n\r\t\u00e4\ud83c\udfe0"}',
        b'{"' + b"k" * 100_000 + b'":"' + b"v" * 100_000 + b'"}',
    ],
)
def test_legal_json_is_accepted_unchanged(body):
    parsed = parse_object(body)

    assert parsed.payload == json.loads(body)
    assert parsed.notes == ()


@pytest.mark.parametrize(
    ("token", "value"),
    [
        ("-0", 0),
        ("-0.0", 0.0),
        ("1E5", 100000.0),
        ("1e-400", 0.0),
        ("1.7976931348623157e308", sys.float_info.max),
        ("5e-324", 5e-324),
        ("-" + "9" * 308, 1 - 10**308),
        ("1" + "0" * 308, 10**308),
        ("0." + "1" * 998, 1 / 9),
        ("0e999999", 0.0),
        ("9007199254740993", 9007199254740993),
    ],
)
def test_numbers_within_float_range_are_kept(token, value):
    payload = parse_object(f'{{"n": {token}}}'.encode()).payload

    assert payload == {"n": value}
    assert type(payload["n"]) is type(value)


@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}"), ('["[{",', ',"}"]')])
def test_nesting_may_be_64_deep(opening, closing):
    body = nested(64, opening, closing)[:-1] + b',"beside it":[[],{},[{}]]}'

    assert parse_object(body).payload == json.loads(body)


@pytest.mark.parametrize("text", ["[" * 500, r"\"" + "[{" * 500, "\\\\" + "[" * 500, '"' + "]" * 100 + "[" * 500])
def test_brackets_in_strings_are_not_nesting(text):
    payload = {text: text, "list": [text, {"a": text}]}

    assert parse_object(json.dumps(payload).encode()).payload == payload


def test_brackets_side_by_side_are_not_nesting():
    payload = {"a": [[], {}, [[{}]]] * 1000}

    assert parse_object(json.dumps(payload).encode()).payload == payload


# --- refused ---------------------------------------------------------------------------------------------------------


def test_a_body_cut_at_any_byte_is_refused():
    for body in (LEAD_BODY, ESCAPED_LEAD_BODY, BOM + LEAD_BODY):
        for length in range(len(body)):
            refusal(body[:length])


def test_any_byte_after_the_object_is_refused():
    for byte in set(range(256)) - set(b" \t\r\n"):
        refusal(LEAD_BODY + bytes([byte]))


def test_unescaped_control_characters_are_refused():
    for code in range(0x20):
        refusal(b'{"a":"%c"}' % code)
        refusal(b'{"%c":1}' % code)


@pytest.mark.parametrize("body", [b"", BOM, b"\n\t\r ", BOM + b"\n"])
def test_an_empty_body_is_refused(body):
    assert refusal(body) == "empty"


@pytest.mark.parametrize("value", ["[]", '[{"a":1}]', '"{}"', "1", "-1.5", "null", " \ntrue \n"])
def test_anything_but_an_object_is_refused(value):
    assert refusal(value.encode()) == "not an object"


@pytest.mark.parametrize(
    "sequence",
    [
        b"\x80",  # a continuation byte alone
        b"\xe2\x82",  # a sequence without its end
        b"\xc0\x80",  # overlong
        b"\xed\xa0\xbc\xed\xbf\xa0",  # surrogates, as CESU-8 has them
        b"\xf4\x90\x80\x80",  # beyond U+10FFFF
        b"\xff",
        "ä".encode("latin-1"),
    ],
)
@pytest.mark.parametrize("frame", [b'{"a":"%s"}', b'{"%s":1}', b'{"a":1}%s', b"%s{}"])
def test_other_bytes_than_utf8_are_refused(sequence, frame):
    assert refusal(frame % sequence) == "not UTF-8"


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be"])
def test_other_unicode_encodings_are_refused(encoding):
    refusal('{"a":1}'.encode(encoding))
    refusal('{"ä":"ö"}'.encode(encoding))


@pytest.mark.parametrize("frame", ['{"n":%s}', '{"a":[1,{"n":%s}]}'])
@pytest.mark.parametrize(
    ("token", "reason"),
    [
        *((constant, "NaN or Infinity") for constant in ("NaN", "Infinity", "-Infinity")),
        *(
            (token, "number beyond float range")
            for token in ("1e309", "-1e309", "1.8e308", "1" + "0" * 309, "-" + "9" * 309, "9" * 1000, "1e" + "9" * 900)
        ),
        *(
            (token, "number longer than 1000 characters")
            for token in ("9" * 1001, "9" * 4301, "9" * 200_000, "0." + "1" * 999, "1e-" + "9" * 1000, "0e" + "0" * 999)
        ),
    ],
)
def test_numbers_that_are_too_large_or_too_long_are_refused(token, reason, frame):
    assert refusal((frame % token).encode()) == reason


INVALID_TOKENS = [
    *("+1", "01", "-01", "1.", ".5", "-", "1e", "0e", "1.e5", "1ee5", "0x10", "1_000", "1.2.3", "1-1", "1 000"),
    *("\u0661", "\u00b2", "\uff11", "\u221e", "\u22121", "nan", "-NaN", "+Infinity", "inf", "True", "None"),
]
INVALID_ESCAPES = [
    *("\\", r"\a", r"\0", r"\'", r"\x41", r"\N{DASH}", r"\U00000041", r"\u", r"\u123", r"\uXYZW", r"\u+123"),
    *(r"\u 123", r"\u{41}", r"\u１２３４", r"\ud83d\u", r"\ud83d\ude", r"\udc0", r"\ud800\udcZZ", r"\ud800\u00"),
]
INVALID_DOCUMENTS = [
    *("{", "}", "{{}}", '{"a"}', '{"a":}', '{"a" 1}', '{"a"::1}', '{"a":1,}', '{,"a":1}', '{"a":1 "b":2}'),
    *('{"a":[1,]}', '{"a":[1 2]}', '{"a":[}', '{"a":1]', '{"a":1}}', '{"a":1}\n{"b":2}', "{a:1}", "{'a':1}"),
    *("{1:2}", '{["a"]:1}', '{"a":"b}', '{"a":"b""c"}', '{"a":1} // comment', '{/* comment */"a":1}'),
    *('\ufeff\ufeff{"a":1}', '{\xa0"a":1}', '{"a":\u20281}', '{\x0b"a":1}', '\x00{"a":1}', '{"a":1}\x00'),
    *(r'{\u0022a":1}', r'{"a":\u0031}', r'{"a":1}\u0000', r"\u0000{}", "a=1&b=2", "<a>1</a>"),
]


@pytest.mark.parametrize(
    "text",
    [
        *(f'{{"n":[{token}]}}' for token in INVALID_TOKENS),
        *(f'{{"a":"x{escape} y"}}' for escape in INVALID_ESCAPES),
        *(f'{{"{escape}":1}}' for escape in INVALID_ESCAPES),
        *INVALID_DOCUMENTS,
    ],
)
def test_invalid_json_is_refused(text):
    refusal(text.encode())


@pytest.mark.parametrize("depth", [65, 5000])
@pytest.mark.parametrize(
    ("opening", "closing"), [("[", "]"), ('{"a":', "}"), ('[{"a":', "}]"), ("[[],", "]"), ('["[",', "]")]
)
def test_deep_nesting_is_refused(depth, opening, closing):
    assert refusal(nested(depth, opening, closing)) == "nesting deeper than 64"


@pytest.mark.parametrize("opening", [b"[", b'{"a":', b'[{"":', b'["]",'])
def test_deep_nesting_is_refused_before_the_body_is_decoded(opening, monkeypatch):
    monkeypatch.setattr(strict_json.json, "loads", lambda *args, **kwargs: pytest.fail("the decoder was called"))

    assert refusal(opening * (200_000 // len(opening))) == "nesting deeper than 64"


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 262_144,
        b'{"a":"' * 43_000,
        b'"' * 262_144,
        b'{"a":"' + b"\\" * 262_100,
        b'{"a":[' + b"[]," * 87_000,
        b'{"a":"' + rb"\u0000" * 43_000,
        b'{"a":"' + rb"\ud800" * 43_000,
        b'{"a":"' + rb"\\\u0000" * 32_000,
        b'{"a":' + b"9" * 262_000 + b"}",
    ],
)
def test_no_body_of_the_allowed_size_takes_long(body):
    started = time.process_time()
    refusal(body)

    assert time.process_time() - started < 5  # about 20 ms; a quadratic scan would take minutes


@pytest.mark.parametrize(
    "body",
    [
        *('{"a":geheim}', '{"a":"\\geheim"}', '{"a":"\\ugeheim"}', '{"geheim":NaN}', '{"geheim":1e999}'),
        *('["geheim"]', '{"geheim', "geheim", '{"geheim":1} geheim', '{"a":"geheim\udcff'),
    ],
)
def test_the_reason_never_quotes_the_body(body):
    assert "geheim" not in refusal(body.encode(errors="surrogateescape"))


def test_the_reason_contains_the_position():
    assert refusal(b'{"a":1,}') == "invalid JSON at character 7"


# --- cleaned ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "value", "note"),
    [
        (r"a\u0000b\u0000\u0000\u0000", "a\ufffdb\ufffd\ufffd\ufffd", "nul_replaced"),
        (r"\\\u0000", "\\\ufffd", "nul_replaced"),
        (r"\"\u0000\"", '"\ufffd"', "nul_replaced"),
        (r"\n\u0000", "\n\ufffd", "nul_replaced"),
        (r"\ud800", "\ufffd", "surrogate_replaced"),
        (r"\uDFFF", "\ufffd", "surrogate_replaced"),
        (r"\ud83cx\udfe0", "\ufffdx\ufffd", "surrogate_replaced"),
        (r"\udfe0\ud83c", "\ufffd\ufffd", "surrogate_replaced"),
        (r"\ud83c\ud83c\udfe0", "\ufffd🏠", "surrogate_replaced"),
        (r"\ud83c\udfe0\udfe0", "🏠\ufffd", "surrogate_replaced"),
        (r"\ud83c\\udfe0", "\ufffd\\udfe0", "surrogate_replaced"),
        (r"\ud83c\u00e4", "\ufffdä", "surrogate_replaced"),
    ],
)
def test_unstorable_characters_are_replaced_and_noted(text, value, note):
    in_value = parse_object(f'{{"a":["{text}"]}}'.encode())
    in_key = parse_object(f'{{"a":{{"{text}":1}}}}'.encode())

    assert in_value.payload == {"a": [value]}
    assert in_key.payload == {"a": {value: 1}}
    assert in_value.notes == in_key.notes == (note,)


@pytest.mark.parametrize("text", [r"\\u0000", r"\\ud800", r"\\\\u0000", r"\uD83C\uDFE0\ud83c\udfe0", r"\u0001\ue000"])
def test_similar_escapes_are_kept(text):
    body = f'{{"a":"{text}"}}'.encode()

    assert parse_object(body).payload == json.loads(body)
    assert parse_object(body).notes == ()


@pytest.mark.parametrize(
    ("body", "payload"),
    [
        (b'{"a":1,"b":0,"a":null}', {"b": 0, "a": None}),
        (b'{"a":1,"\\u0061":2}', {"a": 2}),
        (b'{"x":[{"a":1,"a":2}],"a":3}', {"x": [{"a": 2}], "a": 3}),
        (b'{"a":{"b":1},"a":{"c":2}}', {"a": {"c": 2}}),
    ],
)
def test_the_last_of_duplicate_keys_is_kept_and_noted(body, payload):
    parsed = parse_object(body)

    assert parsed.payload == payload
    assert parsed.notes == ("duplicate_keys",)


def test_equal_keys_in_different_objects_are_not_duplicates():
    assert parse_object(b'{"a":{"a":[{"a":1},{"a":2}]}}').notes == ()


def test_keys_that_become_equal_by_cleaning_are_duplicates():
    first_clean = parse_object('{"a\ufffd":1,"a\\u0000":2}'.encode())
    last_clean = parse_object('{"a\\u0000":1,"a\ufffd":2}'.encode())

    assert first_clean.payload == last_clean.payload == {"a\ufffd": 2}
    assert first_clean.notes == last_clean.notes == ("nul_replaced", "duplicate_keys")


def test_each_kind_of_change_is_noted_once():
    body = rb'{"a":"\u0000\ud800","b":"\udfff\u0000","c":1,"c":{"d":1,"d":2}}'

    assert parse_object(body).notes == ("nul_replaced", "surrogate_replaced", "duplicate_keys")


# --- any input -------------------------------------------------------------------------------------------------------

#: With NUL and surrogates.
any_texts = st.text(st.characters(codec=None))
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
numbers = st.integers(-(10**308), 10**308) | st.floats(allow_nan=False, allow_infinity=False)
scalars = st.none() | st.booleans() | numbers | texts
values = st.recursive(scalars, lambda inner: st.lists(inner) | st.dictionaries(texts, inner), max_leaves=8)
storable_objects = st.dictionaries(texts, values, max_size=4)
PIECES = [
    *'{}[],:"\\ \n-01.ä🏠\ufeff\0',
    *('"a":', '{"a":', "e9", "1e400", "null", "true", "NaN", r"\u0000", r"\ud800", r"\udc00", r"\n"),
]
#: Pieces of JSON in any order: nearer to the border between valid and invalid than random bytes.
fragments = st.lists(st.sampled_from(PIECES), max_size=30).map(lambda pieces: "".join(pieces).encode())


def parsed_or_refused(body: bytes) -> Any:
    """Return the parsed object, or None when it is refused. Any other exception fails the test."""
    try:
        return parse_object(body)
    except MalformedJSON:
        return None


def assert_storable(payload: dict[str, Any]) -> None:
    text = json.dumps(payload, ensure_ascii=False, allow_nan=False)
    assert "\\u0000" not in text.replace("\\\\", "")
    assert json.loads(text.encode("utf-8")) == payload


@given(st.binary() | fragments | fragments.map(lambda body: b'{"a":' + body + b"}"))
@example(b"\xef\xbb\xbf")
@example(b'{"a":"\\')
@example(b'{"a":"\\u')
def test_any_bytes_are_a_storable_object_or_malformed(body):
    parsed = parsed_or_refused(body)

    assert parsed == parsed_or_refused(body)
    if parsed is not None:
        assert_storable(parsed.payload)


def test_a_lead_with_a_changed_byte_is_malformed_or_read_as_by_a_plain_decoder():
    replacements = [*b'{}[]",:\\0e-tn \n', 0x00, 0x1F, 0x80, 0xC3, 0xFF]
    accepted = 0
    for body in (LEAD_BODY, ESCAPED_LEAD_BODY):
        for position in range(len(body)):
            for byte in replacements:
                mutated = body[:position] + bytes([byte]) + body[position + 1 :]
                parsed = parsed_or_refused(mutated)
                if parsed is not None and not parsed.notes:
                    accepted += 1
                    assert parsed.payload == json.loads(mutated.decode("utf-8"))

    assert accepted > 100


@given(storable_objects, st.booleans())
def test_any_storable_object_is_kept(payload, ascii_only):
    parsed = parse_object(json.dumps(payload, ensure_ascii=ascii_only).encode())

    assert parsed.payload == payload
    assert parsed.notes == ()


@given(st.dictionaries(any_texts, any_texts | st.lists(any_texts)))
def test_any_text_is_made_storable(payload):
    assert_storable(parse_object(json.dumps(payload).encode()).payload)


# --- the payload hash ------------------------------------------------------------------------------------------------


def shuffled(value: Any, order: random.Random) -> Any:
    if isinstance(value, dict):
        items = [(key, shuffled(item, order)) for key, item in value.items()]
        order.shuffle(items)
        return dict(items)
    if isinstance(value, list):
        return [shuffled(item, order) for item in value]
    return value


@given(storable_objects, st.randoms(use_true_random=False), st.sampled_from([None, 0, 3, "\t"]), st.booleans())
def test_the_hash_ignores_key_order_white_space_and_escapes(payload, order, indent, ascii_only):
    body = json.dumps(shuffled(payload, order), indent=indent, ensure_ascii=ascii_only).encode()

    assert payload_hash(parse_object(body).payload) == payload_hash(payload)


def test_similar_payloads_have_different_hashes():
    payloads: list[dict[str, Any]] = [
        *({"a": 1}, {"a": "1"}, {"a": 1.0}, {"a": True}, {"a": None}, {}, {"a": [1, 2]}, {"a": [2, 1]}),
        *({"a": "x"}, {"a": "x "}, {"a": {"b": 1}}, {"a.b": 1}),
    ]

    assert len({payload_hash(payload) for payload in payloads}) == len(payloads)


def test_the_hash_is_the_sha256_of_the_canonical_json():
    # printf '{"a":{"b":[1,2]},"ü":"ß"}' | sha256sum
    assert payload_hash({"ü": "ß", "a": {"b": [1, 2]}}) == (
        "5927f6669d5089ced8a907b816f68ee9d65a0f658f3ff0fb33cf41e7397bcf3e"
    )


# --- texts -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("Straße 🏠\n\t\x7f\x01\ufffd\ue000\ud7ff", "Straße 🏠\n\t\x7f\x01\ufffd\ue000\ud7ff"),
        ("a\0b\0", "a\ufffdb\ufffd"),
        ("a\udfffb\udbff", "a\ufffdb\ufffd"),
    ],
)
def test_unstorable_characters_of_a_text_are_replaced(text, cleaned):
    assert clean_text(text) == cleaned


@given(any_texts)
def test_a_cleaned_text_is_storable(text):
    cleaned = clean_text(text)

    assert "\0" not in cleaned
    assert cleaned.encode("utf-8").decode("utf-8") == cleaned
    assert clean_text(cleaned) == cleaned
    assert len(cleaned) == len(text)
