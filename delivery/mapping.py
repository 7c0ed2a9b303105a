"""Map a lead to the customer's payload, by a mapping file. A field that is not in the file is never sent.

The file is one JSON object: attribute name -> {"attribute_type", "is_numeric", "values"}, all three required.
"""

import hashlib
import json
import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from itertools import filterfalse
from pathlib import Path
from typing import Any, TypeGuard

from leads.normalization import normalize

Number = int | float

_NUMBER = re.compile(r"(?P<whole>[+-]?[0-9]+)(?P<rest>(\.[0-9]+)?([eE][+-]?[0-9]+)?)")
# More than any quantity needs, and little enough to be converted quickly.
_MAX_NUMBER_LENGTH = 64
_MAX_SHOWN_LENGTH = 80


class AttributeType(StrEnum):
    """How a value is checked."""

    TEXT = "text"
    DROPDOWN = "dropdown"
    RANGE = "range"


@dataclass(frozen=True)
class AttributeRule:
    """One entry of the mapping file.

    `values` are the allowed texts of a dropdown, or the minimum and maximum of a range, both allowed; None: any value.
    `is_numeric` only matters for text: a range is always a number, a dropdown never is.
    """

    name: str
    attribute_type: AttributeType
    is_numeric: bool
    values: tuple[Any, ...] | None


@dataclass(frozen=True)
class AttributeMapping:
    """The rules in the file's order, and the SHA-256 (hex) of the file's bytes."""

    rules: tuple[AttributeRule, ...]
    sha256: str


@dataclass(frozen=True)
class MappedLead:
    """The customer's payload, and what could not be mapped.

    `omitted` maps attribute names to reasons, such as `{"code": "below_minimum", "bound": 1}`, which never quote the
    value. `missing` names required fields that are empty ("phone", "product.name"); then the payload must not be sent.
    """

    payload: dict[str, Any]
    omitted: dict[str, dict[str, Any]]
    missing: tuple[str, ...]


class MappingError(ValueError):
    """The mapping file is invalid. The text has one line for every problem, with key and field."""


class _InvalidValueError(ValueError):
    """The value does not fit the rule. Its argument is the reason, an object of `MappedLead.omitted`."""


class _Object(dict[str, Any]):
    """A JSON object that keeps all pairs of the text, including those with a repeated key."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        self.pairs = pairs
        counts = Counter(key for key, _ in pairs)
        self.repeated = tuple(key for key, count in counts.items() if count > 1)


def load_mapping(path: Path) -> AttributeMapping:
    """Read and check a mapping file.

    :raises MappingError: it cannot be read or is invalid; the text begins with the path.
    """
    try:
        return parse_mapping(path.read_bytes())
    except OSError as error:
        raise MappingError(f"{path}: cannot be read: {error.strerror}") from error
    except MappingError as error:
        raise MappingError(f"{path}: {error}") from error


def parse_mapping(data: bytes) -> AttributeMapping:
    """Check the bytes of a mapping file and return its rules.

    :raises MappingError: lists every problem, such as
        `solar_area: values: expected null or [min, max] with min <= max, got [5]`.
    """
    try:
        # utf-8-sig, because editors on Windows add a BOM.
        document = json.loads(data.decode("utf-8-sig"), object_pairs_hook=_Object)
        problems = list(_problems(document))
    except RecursionError:
        raise MappingError("nested too deeply") from None
    except ValueError as error:
        raise MappingError(f"not JSON in UTF-8: {error}") from error
    if problems:
        raise MappingError("\n".join(problems))
    rules = (
        AttributeRule(
            name=name,
            attribute_type=AttributeType(entry["attribute_type"]),
            is_numeric=entry["is_numeric"],
            values=None if entry["values"] is None else tuple(entry["values"]),
        )
        for name, entry in document.items()
    )
    return AttributeMapping(rules=tuple(rules), sha256=hashlib.sha256(data).hexdigest())


def map_lead(normalized: Mapping[str, Any], *, mapping: AttributeMapping, product_name: str) -> MappedLead:
    """Build the customer's payload from a normalized lead. Never raises for JSON values.

    Attributes come from top-level fields, in the order of the mapping file. An invalid or null one is left out, and
    `omitted` says why; a field that is absent is not mentioned. A missing phone or product name is "" in the payload.
    """
    attributes: list[dict[str, Any]] = []
    omitted: dict[str, dict[str, Any]] = {}
    for rule in mapping.rules:
        if rule.name not in normalized:
            continue
        try:
            attributes.append({"name": rule.name, "value": _attribute_value(rule, normalized[rule.name])})
        except _InvalidValueError as invalid:
            omitted[rule.name] = invalid.args[0]
    phone = normalized.get("phone")
    required = {"phone": phone.strip() if isinstance(phone, str) else "", "product.name": product_name.strip()}
    return MappedLead(
        payload={
            "phone": required["phone"],
            "product": {"name": required["product.name"]},
            "attributes": attributes,
        },
        omitted=omitted,
        missing=tuple(filterfalse(required.get, required)),
    )


def _attribute_value(rule: AttributeRule, value: Any) -> Any:
    """Return the value to send.

    :raises _InvalidValueError: it does not fit the rule.
    """
    if value is None:
        raise _InvalidValueError({"code": "null_value"})
    if isinstance(value, str) and not value.strip():
        raise _InvalidValueError({"code": "empty"})
    match rule.attribute_type:
        case AttributeType.TEXT if rule.is_numeric:
            _number(value)
        case AttributeType.TEXT if not isinstance(value, str):
            raise _InvalidValueError({"code": "not_text"})
        case AttributeType.DROPDOWN if value not in (rule.values or ()):
            raise _InvalidValueError({"code": "not_allowed"})
        case AttributeType.RANGE:
            return _number_in_range(rule, value)
    return value


def _number_in_range(rule: AttributeRule, value: Any) -> Number:
    number = _number(value)
    minimum, maximum = rule.values or (-math.inf, math.inf)
    if number < minimum:
        raise _InvalidValueError({"code": "below_minimum", "bound": minimum})
    if number > maximum:
        raise _InvalidValueError({"code": "above_maximum", "bound": maximum})
    return number


def _number(value: Any) -> Number:
    """Return a finite number, or the number in a string: an int unless it has a fraction or an exponent.

    :raises _InvalidValueError: there is no number.
    """
    number = _written_number(value) if isinstance(value, str) else value
    if not _is_finite_number(number):
        raise _InvalidValueError({"code": "not_a_number"})
    return number


def _written_number(text: str) -> Number | None:
    match = _NUMBER.fullmatch(text) if len(text) <= _MAX_NUMBER_LENGTH else None
    if match is None:
        return None
    return float(text) if match["rest"] else int(match["whole"])


def _is_finite_number(value: Any) -> TypeGuard[Number]:
    """Return whether a value is a number, not a boolean, and fits into a double, as most JSON parsers require."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def _problems(document: Any) -> Iterator[str]:
    """Yield the problems of a mapping file's JSON."""
    if not isinstance(document, _Object):
        yield f"expected an object of attributes, got {_shown(document)}"
        return
    for name in document.repeated:
        yield f"{name}: given more than once"
    for name, entry in document.pairs:
        yield from (f"{name}: {problem}" for problem in _entry_problems(name, entry))


def _entry_problems(name: str, entry: Any) -> Iterator[str]:
    if not name.strip():
        yield "expected a name that is not blank"
    if not isinstance(entry, _Object):
        yield f"expected an object, got {_shown(entry)}"
        return
    for field in entry.repeated:
        yield f"{field}: given more than once"
    for field in entry:
        if field not in _FIELD_CHECKS:
            yield f"{field}: unknown field, expected {', '.join(_FIELD_CHECKS)}"
    for field, expected in _FIELD_CHECKS.items():
        if field not in entry:
            yield f"{field}: missing"
        elif problem := expected(entry):
            yield f"{field}: expected {problem}, got {_shown(entry[field])}"


def _expected_values(entry: Mapping[str, Any]) -> str | None:
    """Return what `values` should be for the entry's type; None: it is valid, or the type is unknown."""
    values = entry.get("values")
    match entry.get("attribute_type"):
        case AttributeType.TEXT if values is not None:
            return "null"
        case AttributeType.DROPDOWN if not _are_choices(values):
            return "a list of distinct texts, each trimmed, not empty and not true or false"
        case AttributeType.RANGE if not (values is None or _are_bounds(values)):
            return "null or [min, max] with min <= max"
    return None


# Field -> function that returns what the value should be, or None when it is valid.
_FIELD_CHECKS: dict[str, Callable[[Mapping[str, Any]], str | None]] = {
    "attribute_type": lambda entry: (
        None if entry.get("attribute_type") in tuple(AttributeType) else " or ".join(AttributeType)
    ),
    "is_numeric": lambda entry: None if isinstance(entry.get("is_numeric"), bool) else "true or false",
    "values": _expected_values,
}


def _are_choices(values: Any) -> bool:
    return (
        isinstance(values, list)
        and len(values) > 0
        and all(isinstance(value, str) and _can_be_matched(value) for value in values)
        and len(set(values)) == len(values)
    )


def _can_be_matched(choice: str) -> bool:
    """Return whether a normalized lead can contain this text. An untrimmed one, or "true", would never match."""
    return choice != "" and normalize({"choice": choice}) == {"choice": choice}


def _are_bounds(values: Any) -> bool:
    return (
        isinstance(values, list)
        and len(values) == 2
        and all(_is_finite_number(value) for value in values)
        and values[0] <= values[1]
    )


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _MAX_SHOWN_LENGTH else f"{text[:_MAX_SHOWN_LENGTH]}..."
