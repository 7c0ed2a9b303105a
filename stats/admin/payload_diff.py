"""Compare the forms of a payload: which values changed and why, what was moved, and what is not sent.

Pure functions of JSON. A payload may be 200 KB with 20,000 values and a user waits for the page, so each value is
visited once, and lists end after MAX_ROWS with the total number.
"""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from json.encoder import encode_basestring
from typing import Any

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from stats.text.reasons import reason_text

MAX_ROWS = 200

CHANGED, MOVED, ADDED, REMOVED = "changed", "moved", "added", "removed"

#: Mark -> the sign in front of a line, and its meaning.
SIGNS: dict[str, tuple[str, Any]] = {
    CHANGED: ("≠", gettext_lazy("changed")),
    MOVED: ("→", gettext_lazy("moved")),
    ADDED: ("+", gettext_lazy("added")),
    REMOVED: ("−", gettext_lazy("removed")),
}

Path = tuple[str | int, ...]

#: The marks of the members of a JSON value by position: a mark, or the marks of the member. Positions are used instead
#: of names because names may be masked before the value is written.
Marks = dict[int, Any]

_PLAIN_NAME = re.compile(r"\w+")


@dataclass(frozen=True)
class Change:
    """A value that differs between two forms of a payload."""

    path: Path
    before: Any
    after: Any
    reason: str

    @property
    def names(self) -> list[str]:
        """Return the field names of the path, without the positions in lists."""
        return [step for step in self.path if isinstance(step, str)]


@dataclass
class PayloadDiff:
    """Two forms of a payload: the marks of each, the first MAX_ROWS changes and the total number of changes."""

    before: Marks | str = field(default_factory=dict)
    after: Marks | str = field(default_factory=dict)
    changes: list[Change] = field(default_factory=list)
    total: int = 0


# --- received and normalized -----------------------------------------------------------------------------------------


def compare(before: Any, after: Any) -> PayloadDiff:
    """Compare the received payload with its normalized form, value by value."""
    diff = PayloadDiff()
    diff.before, diff.after = _compare(before, after, (), diff) or ({}, {})
    return diff


def _compare(before: Any, after: Any, path: Path, diff: PayloadDiff) -> tuple[Any, Any] | None:
    """Return the marks of both sides; None when they are equal."""
    if type(before) is type(after):
        if isinstance(before, dict):
            return _compare_objects(before, after, path, diff)
        if isinstance(before, list) and len(before) == len(after):
            return _compare_lists(before, after, path, diff)
        if before == after:
            return None
    _add(diff, path, before, after, CHANGED)
    return CHANGED, CHANGED


def _compare_lists(before: list[Any], after: list[Any], path: Path, diff: PayloadDiff) -> tuple[Marks, Marks] | None:
    left: Marks = {}
    right: Marks = {}
    for index, (old, new) in enumerate(zip(before, after, strict=True)):
        if marks := _compare(old, new, (*path, index), diff):
            left[index], right[index] = marks
    return (left, right) if left else None


def _compare_objects(
    before: dict[str, Any], after: dict[str, Any], path: Path, diff: PayloadDiff
) -> tuple[Marks, Marks] | None:
    left: Marks = {}
    right: Marks = {}
    positions = {name: index for index, name in enumerate(after)}
    for index, (name, old) in enumerate(before.items()):
        if name not in after:
            left[index] = REMOVED
            _add(diff, (*path, name), old, None, REMOVED)
        elif marks := _compare(old, after[name], (*path, name), diff):
            left[index], right[positions[name]] = marks
    for name in [name for name in after if name not in before]:
        right[positions[name]] = ADDED
        _add(diff, (*path, name), None, after[name], ADDED)
    return (left, right) if left or right else None


def _add(diff: PayloadDiff, path: Path, before: Any, after: Any, mark: str) -> None:
    diff.total += 1
    if diff.total <= MAX_ROWS:
        reason = str(SIGNS[mark][1]) if mark != CHANGED else _reason(path, before, after)
        diff.changes.append(Change(path, before, after, reason))


def _reason(path: Path, before: Any, after: Any) -> str:
    """Return which rule of the normalization changed a value."""
    if isinstance(after, bool):
        return _("text → true or false")
    if path == ("phone",):
        return _phone_reason(str(after))
    if isinstance(before, str) and isinstance(after, str):
        return _text_reason(before, after)
    return _("changed")


def _phone_reason(number: str) -> str:
    if number.startswith("+"):
        return _("international format (E.164)")
    return _("unknown numbering plan: only digits kept") if number else _("contains no digits")


def _text_reason(before: str, after: str) -> str:
    trimmed = before.strip()
    reasons = [_("whitespace trimmed")] if trimmed != before else []
    if trimmed != after:
        reasons.append(_("converted to lower case") if trimmed.lower() == after else _("changed"))
    return ", ".join(reasons)


# --- for the customer ------------------------------------------------------------------------------------------------


def marks_for_customer(normalized: Any, customer: Any) -> Marks:
    """Return the marks of the customer payload: values that were moved, changed or added."""
    if not isinstance(normalized, dict) or not isinstance(customer, dict):
        return {}
    marks: Marks = {}
    for index, (name, value) in enumerate(customer.items()):
        if name == "attributes" and isinstance(value, list):
            marks[index] = {position: _attribute_marks(each, normalized) for position, each in enumerate(value)}
        elif name not in normalized:
            marks[index] = ADDED
        elif not _equal(value, normalized[name]):
            marks[index] = CHANGED
    return marks


def _attribute_marks(attribute: Any, normalized: dict[str, Any]) -> Any:
    name = _attribute_name(attribute)
    if name is None or name not in normalized:
        return ADDED
    is_unchanged = _equal(attribute.get("value"), normalized[name])
    return {index: MOVED if is_unchanged or part == "name" else CHANGED for index, part in enumerate(attribute)}


def _attribute_name(attribute: Any) -> str | None:
    name = attribute.get("name") if isinstance(attribute, dict) else None
    return name if isinstance(name, str) else None


def _equal(one: Any, other: Any) -> bool:
    return type(one) is type(other) and one == other


def origins(normalized: Any, customer: Any) -> list[tuple[str, str]]:
    """Return the names and origins of the first MAX_ROWS values that are sent to the customer."""
    if not isinstance(customer, dict):
        return []
    fields = normalized if isinstance(normalized, dict) else {}
    known = {"phone": _("field phone"), "product": _("setting CUSTOMER_PRODUCT_NAME")}
    found = [(name, known.get(name, _("unknown"))) for name in customer if name != "attributes"]
    for attribute in _attributes(customer)[:MAX_ROWS]:
        name = _attribute_name(attribute)
        origin = _origin(attribute, name, fields[name]) if name in fields else _("unknown")
        found.append(("attributes" if name is None else name, origin))
    return found[:MAX_ROWS]


def _origin(attribute: dict[str, Any], name: str | None, value: Any) -> str:
    origin = _("field {name}").format(name=name)
    is_unchanged = _equal(attribute.get("value"), value)
    return origin if is_unchanged else _("{origin}, text → number").format(origin=origin)


def _attributes(customer: Any) -> list[Any]:
    attributes = customer.get("attributes") if isinstance(customer, dict) else None
    return attributes if isinstance(attributes, list) else []


def omitted_fields(normalized: Any, customer: Any, mapped: Any) -> tuple[list[tuple[str, str]], int]:
    """Return the first MAX_ROWS fields that are not sent to the customer with the reasons, and their total number.

    :param mapped: the detail of the lead's last event about the mapping.
    """
    if not isinstance(normalized, dict) or not isinstance(customer, dict):
        return [], 0
    sent = {name for name in map(_attribute_name, _attributes(customer)) if name is not None} | {"phone"}
    names = [name for name in normalized if name not in sent]
    return [(name, _omission_reason(name, mapped)) for name in names[:MAX_ROWS]], len(names)


def _omission_reason(name: str, mapped: Any) -> str:
    if not isinstance(mapped, dict):
        return _("reason not recorded")
    omitted = mapped.get("omitted")
    if isinstance(omitted, dict) and name in omitted:
        return reason_text(omitted[name])
    return _("not in the mapping file")


# --- as text ---------------------------------------------------------------------------------------------------------


def path_text(path: Path) -> str:
    """Return a path as text, such as `house.rooms[2]`."""
    text = "".join(f"[{step}]" if isinstance(step, int) else f".{_name(step)}" for step in path)
    return text.removeprefix(".")


def _name(step: str) -> str:
    return step if _PLAIN_NAME.fullmatch(step) else encode_basestring(step)


def one_line_json(value: Any) -> str:
    """Return JSON in one line."""
    return json.dumps(value, ensure_ascii=False)


def marked_lines(value: Any, marks: Marks | str) -> list[tuple[str, str]]:
    """Return indented JSON as lines, each with its mark."""
    lines: list[tuple[str, str]] = []
    _write(value, marks, "", "", "", lines.append)
    return lines


def _write(
    value: Any, marks: Marks | str, indent: str, head: str, tail: str, add: Callable[[tuple[str, str]], None]
) -> None:
    """Write a value as lines.

    :param head: the text before it in its first line, such as the name of a member.
    :param tail: the text after it in its last line, such as a comma.
    """
    mark = marks if isinstance(marks, str) else ""
    if not value or not isinstance(value, dict | list):
        add((mark, f"{indent}{head}{_scalar(value)}{tail}"))
        return
    opening, closing = "{}" if isinstance(value, dict) else "[]"
    add((mark, f"{indent}{head}{opening}"))
    deeper, last = indent + "  ", len(value) - 1
    for index, (name, item) in enumerate(_members(value)):
        inner = mark or (marks.get(index, "") if isinstance(marks, dict) else "")
        _write(item, inner, deeper, name, "," if index < last else "", add)
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
    return str(value).lower() if isinstance(value, bool) else repr(value)  # an empty object or list is {} or []
