"""What became of a payload on its way: which values changed and why, what was moved, and what was left out.

Pure functions of JSON. They are asked about 200 KB in 20,000 values while somebody waits, so each value is looked at
once, and lists end at LONGEST with the number of all.
"""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from json.encoder import encode_basestring
from typing import Any

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from stats.text.stored_texts import translate_stored_text

LONGEST = 200

CHANGED, MOVED, ADDED, GONE = "changed", "moved", "added", "gone"

#: What a mark looks like in front of a line, and what it means.
SIGNS: dict[str, tuple[str, Any]] = {
    CHANGED: ("≠", gettext_lazy("changed")),
    MOVED: ("→", gettext_lazy("moved")),
    ADDED: ("+", gettext_lazy("added")),
    GONE: ("−", gettext_lazy("removed")),
}

Path = tuple[str | int, ...]

#: The marks of a JSON value's members by their place in it; a mark, or marks again. Places and not names, because the
#: names may have been masked when it is written.
Marks = dict[int, Any]

_PLAIN_NAME = re.compile(r"\w+")


@dataclass(frozen=True)
class Change:
    """One value that is another one than before."""

    path: Path
    before: Any
    after: Any
    why: str

    @property
    def names(self) -> list[str]:
        """Return the names on the way to it, without the places in lists."""
        return [step for step in self.path if isinstance(step, str)]


@dataclass
class PayloadDiff:
    """Two forms of a payload: the marks of each, the first LONGEST changes and the number of all."""

    before: Marks | str = field(default_factory=dict)
    after: Marks | str = field(default_factory=dict)
    changes: list[Change] = field(default_factory=list)
    total: int = 0


@dataclass(frozen=True)
class Source:
    """Where a value that the customer gets comes from."""

    target: str
    origin: str


@dataclass(frozen=True)
class LeftOut:
    """A field of the lead that the customer does not get."""

    name: str
    reason: str


# --- as posted, and normalized ---------------------------------------------------------------------------------------


def compare(before: Any, after: Any) -> PayloadDiff:
    """Compare a payload as it was posted with its normalized form, value by value."""
    found = PayloadDiff()
    found.before, found.after = _compare(before, after, (), found) or ({}, {})
    return found


def _compare(before: Any, after: Any, path: Path, found: PayloadDiff) -> tuple[Any, Any] | None:
    """Return the marks of both sides; None when they are the same."""
    if type(before) is type(after):
        if isinstance(before, dict):
            return _compare_objects(before, after, path, found)
        if isinstance(before, list) and len(before) == len(after):
            return _compare_lists(before, after, path, found)
        if before == after:
            return None
    _add(found, path, before, after, CHANGED)
    return CHANGED, CHANGED


def _compare_lists(before: list[Any], after: list[Any], path: Path, found: PayloadDiff) -> tuple[Marks, Marks] | None:
    left: Marks = {}
    right: Marks = {}
    for place, (old, new) in enumerate(zip(before, after, strict=True)):
        if marks := _compare(old, new, (*path, place), found):
            left[place], right[place] = marks
    return (left, right) if left else None


def _compare_objects(
    before: dict[str, Any], after: dict[str, Any], path: Path, found: PayloadDiff
) -> tuple[Marks, Marks] | None:
    left: Marks = {}
    right: Marks = {}
    places = {name: place for place, name in enumerate(after)}
    for place, (name, old) in enumerate(before.items()):
        if name not in after:
            left[place] = GONE
            _add(found, (*path, name), old, None, GONE)
        elif marks := _compare(old, after[name], (*path, name), found):
            left[place], right[places[name]] = marks
    for name in [name for name in after if name not in before]:
        right[places[name]] = ADDED
        _add(found, (*path, name), None, after[name], ADDED)
    return (left, right) if left or right else None


def _add(found: PayloadDiff, path: Path, before: Any, after: Any, mark: str) -> None:
    found.total += 1
    if found.total <= LONGEST:
        why = str(SIGNS[mark][1]) if mark != CHANGED else _why(path, before, after)
        found.changes.append(Change(path, before, after, why))


def _why(path: Path, before: Any, after: Any) -> str:
    """Name what normalization did to a value."""
    if isinstance(after, bool):
        return _("text → true or false")
    if path == ("phone",):
        return _why_phone(str(after))
    if isinstance(before, str) and isinstance(after, str):
        return _why_text(before, after)
    return _("changed")


def _why_phone(number: str) -> str:
    if number.startswith("+"):
        return _("written with its country code (E.164)")
    return _("no number of a known numbering plan: only its digits") if number else _("no digit in it")


def _why_text(before: str, after: str) -> str:
    trimmed = before.strip()
    reasons = [_("white space around it removed")] if trimmed != before else []
    if trimmed != after:
        reasons.append(_("lower-cased") if trimmed.lower() == after else _("changed"))
    return ", ".join(reasons)


# --- for the customer ------------------------------------------------------------------------------------------------


def marks_for_customer(normalized: Any, customer: Any) -> Marks:
    """Return the marks of what the customer gets: what was moved there, is another value now, or was added."""
    if not isinstance(normalized, dict) or not isinstance(customer, dict):
        return {}
    marks: Marks = {}
    for place, (name, value) in enumerate(customer.items()):
        if name == "attributes" and isinstance(value, list):
            marks[place] = {index: _mark_of_attribute(each, normalized) for index, each in enumerate(value)}
        elif name not in normalized:
            marks[place] = ADDED
        elif not _same(value, normalized[name]):
            marks[place] = CHANGED
    return marks


def _mark_of_attribute(attribute: Any, normalized: dict[str, Any]) -> Any:
    name = _name_of(attribute)
    if name is None or name not in normalized:
        return ADDED
    same = _same(attribute.get("value"), normalized[name])
    return {place: MOVED if same or part == "name" else CHANGED for place, part in enumerate(attribute)}


def _name_of(attribute: Any) -> str | None:
    name = attribute.get("name") if isinstance(attribute, dict) else None
    return name if isinstance(name, str) else None


def _same(one: Any, other: Any) -> bool:
    return type(one) is type(other) and one == other


def sources(normalized: Any, customer: Any) -> list[Source]:
    """Say of each value that the customer gets where it comes from, the first LONGEST of them."""
    if not isinstance(customer, dict):
        return []
    fields = normalized if isinstance(normalized, dict) else {}
    known = {
        "phone": _("the field phone"),
        "product": _("the gateway's settings: CUSTOMER_PRODUCT_NAME"),
    }
    found = [Source(name, known.get(name, _("not known"))) for name in customer if name != "attributes"]
    for attribute in _attributes(customer)[:LONGEST]:
        name = _name_of(attribute)
        target = "attributes" if name is None else name
        found.append(Source(target, _origin(attribute, fields) if name in fields else _("not known")))
    return found[:LONGEST]


def _origin(attribute: dict[str, Any], fields: dict[str, Any]) -> str:
    name = str(_name_of(attribute))
    told = _("the field {name}").format(name=name)
    return told if _same(attribute.get("value"), fields[name]) else _("{origin}: text → number").format(origin=told)


def _attributes(customer: Any) -> list[Any]:
    attributes = customer.get("attributes") if isinstance(customer, dict) else None
    return attributes if isinstance(attributes, list) else []


def left_out(normalized: Any, customer: Any, mapped: Any) -> tuple[list[LeftOut], int]:
    """Return the first LONGEST fields of a lead that the customer does not get, with the reasons, and how many all are.

    :param mapped: the detail of the trail's last event about the mapping, as somebody left it.
    """
    if not isinstance(normalized, dict) or not isinstance(customer, dict):
        return [], 0
    sent = {name for name in map(_name_of, _attributes(customer)) if name is not None} | {"phone"}
    names = [name for name in normalized if name not in sent]
    return [LeftOut(name, _why_left_out(name, mapped)) for name in names[:LONGEST]], len(names)


def _why_left_out(name: str, mapped: Any) -> str:
    if not isinstance(mapped, dict):
        return _("the trail does not say why")
    omitted = mapped.get("omitted")
    if isinstance(omitted, dict) and name in omitted:
        return translate_stored_text(str(omitted[name]))
    return _("not in the mapping file; never leaves the house")


# --- written down ----------------------------------------------------------------------------------------------------


def path_in_words(path: Path) -> str:
    """Return the way to a value, such as `house.rooms[2]`."""
    text = "".join(f"[{step}]" if isinstance(step, int) else f".{_name(step)}" for step in path)
    return text.removeprefix(".")


def _name(step: str) -> str:
    return step if _PLAIN_NAME.fullmatch(step) else encode_basestring(step)


def in_a_line(value: Any) -> str:
    """Return JSON in one line."""
    return json.dumps(value, ensure_ascii=False)


def marked_lines(value: Any, marks: Marks | str) -> list[tuple[str, str]]:
    """Return JSON as people read it, in lines with their marks."""
    lines: list[tuple[str, str]] = []
    _write(value, marks, "", "", "", lines.append)
    return lines


def _write(
    value: Any, marks: Marks | str, indent: str, head: str, tail: str, add: Callable[[tuple[str, str]], None]
) -> None:
    """Write a value as lines.

    :param head: what stands before it in its first line, such as the name of a member.
    :param tail: what stands after it in its last line, such as a comma.
    """
    mark = marks if isinstance(marks, str) else ""
    if not value or not isinstance(value, dict | list):
        add((mark, f"{indent}{head}{_scalar(value)}{tail}"))
        return
    opening, closing = "{}" if isinstance(value, dict) else "[]"
    add((mark, f"{indent}{head}{opening}"))
    deeper, last = indent + "  ", len(value) - 1
    for place, (name, item) in enumerate(_members(value)):
        inner = mark or (marks.get(place, "") if isinstance(marks, dict) else "")
        _write(item, inner, deeper, name, "," if place < last else "", add)
    add((mark, f"{indent}{closing}{tail}"))


def _members(value: dict[str, Any] | list[Any]) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        return ((f"{encode_basestring(name)}: ", item) for name, item in value.items())
    return (("", item) for item in value)


def _scalar(value: Any) -> str:
    if isinstance(value, str):
        return encode_basestring(value)
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else repr(value)  # of an empty object or list: {}, []
