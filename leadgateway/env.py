"""Read typed environment variables. An error names the variable, its value and what is allowed."""

import os
import re
from collections.abc import Callable, Iterable
from datetime import timedelta
from pathlib import Path
from typing import NamedTuple, TypeVar

import environ
from django.core.exceptions import ImproperlyConfigured

T = TypeVar("T")

_DURATION_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_DURATION_PART = re.compile(r"(\d+\.?\d*|\.\d+)(ns|us|µs|ms|s|m|h)", re.ASCII)
_LONGEST = timedelta(days=366)

#: The values of Go's strconv.ParseBool, in any case, because the variables come from a Go service.
_BOOLEANS = {"1": True, "t": True, "true": True, "0": False, "f": False, "false": False}


def parse_duration(text: str) -> timedelta:
    """Return a duration in Go's notation: `500ms`, `30s`, `1m30s`, `2h`, `0`.

    :raises ValueError: the text is not a duration, or is negative or longer than a year.
    """
    parts = _DURATION_PART.findall(text)
    if text == "0":
        return timedelta()
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise ValueError("not a duration")
    seconds = sum(float(number) * _DURATION_UNITS[unit] for number, unit in parts)
    if seconds > _LONGEST.total_seconds():
        raise ValueError("longer than a year")
    return timedelta(seconds=seconds)


class RateLimit(NamedTuple):
    """At most `events` per `window`."""

    events: int
    window: timedelta


def _parse_rate(text: str) -> RateLimit | None:
    match = re.fullmatch(r"([1-9]\d{0,3})/([sm])", text, re.ASCII)
    if match is None:
        raise ValueError("not a rate")
    return RateLimit(int(match[1]), timedelta(seconds=_DURATION_UNITS[match[2]]))


class Environment:
    """Reads variables from the environment and a `.env` file, and collects the problems.

    The methods that read a variable never raise: they note a problem and return the default, so that `check` reports
    all problems at once. Instead of NAME, NAME_FILE may give the path of a file with the value, which is how Docker
    and Kubernetes provide secrets.
    """

    def __init__(self, dotenv: Path | None = None) -> None:
        self.names: list[str] = []
        self.problems: list[str] = []
        if dotenv is not None and dotenv.is_file():
            environ.Env.read_env(dotenv)  # does not overwrite variables of the real environment
        self._env = environ.FileAwareEnv()

    def check(self) -> None:
        """Raise an error when there were problems.

        :raises ImproperlyConfigured: lists every problem.
        """
        if self.problems:
            raise ImproperlyConfigured("\n".join(self.problems))

    def text(self, name: str, default: str = "") -> str:
        """Return the value without surrounding white space. An empty value counts as not set."""
        return self._raw(name) or default

    def words(self, name: str, default: str = "") -> list[str]:
        """Return the entries of a comma-separated list, without empty ones."""
        return [word for part in self.text(name, default).split(",") if (word := part.strip())]

    def boolean(self, name: str, default: bool) -> bool:
        """Return a boolean in the notation of Go's ParseBool."""
        return self._parse(name, default, lambda text: _BOOLEANS[text.lower()], "true or false")

    def integer(self, name: str, default: int, *, low: int, high: int) -> int:
        """Return a whole number from `low` to `high`."""

        def read(text: str) -> int:
            number = int(text) if re.fullmatch(r"-?\d{1,12}", text, re.ASCII) else None
            if number is None or not low <= number <= high:
                raise ValueError
            return number

        return self._parse(name, default, read, f"a whole number from {low} to {high}")

    def duration(self, name: str, default: str, *, low: timedelta = timedelta()) -> timedelta:
        """Return a duration of at least `low`."""

        def read(text: str) -> timedelta:
            value = parse_duration(text)
            if value < low:
                raise ValueError
            return value

        least = f" of at least {low.total_seconds():g}s" if low else ""
        allowed = f"a duration{least} such as 500ms, 30s, 1m30s or 2h"
        return self._parse(name, parse_duration(default), read, allowed)

    def rate(self, name: str) -> timedelta | None:
        """Return the interval of a rate such as `20/s` or `90/m`, or None when it is not set."""
        limit = self.limit(name)
        return limit.window / limit.events if limit else None

    def limit(self, name: str) -> RateLimit | None:
        """Return a rate such as `20/s` or `90/m`, or None when it is not set."""
        return self._parse(name, None, _parse_rate, "a rate such as 20/s or 90/m")

    def choice(self, name: str, default: str, allowed: Iterable[str]) -> str:
        """Return one of `allowed`, in lower case."""
        options = tuple(allowed)

        def read(text: str) -> str:
            if text.lower() not in options:
                raise ValueError
            return text.lower()

        return self._parse(name, default, read, f"one of {', '.join(options)}")

    def days(self, name: str, allowed: Iterable[str]) -> dict[str, timedelta]:
        """Return a number of days by name, written as `delivered=180,rejected=30`. Names are in lower case."""
        names = tuple(allowed)

        def read(text: str) -> dict[str, timedelta]:
            found: dict[str, timedelta] = {}
            for part in filter(None, map(str.strip, text.lower().split(","))):
                key, _, number = (piece.strip() for piece in part.partition("="))
                if key not in names or key in found or not re.fullmatch(r"0*[1-9]\d{0,4}", number, re.ASCII):
                    raise ValueError
                found[key] = timedelta(days=int(number))
            return found

        return self._parse(name, {}, read, f"days from 1 to 99999 such as {names[0]}=180, for {', '.join(names)}")

    def problem(self, name: str, why: str) -> None:
        """Note a problem that involves more than one variable. `why` must not contain a secret."""
        self.problems.append(f"{name}: {why}")

    def _parse(self, name: str, default: T, read: Callable[[str], T], allowed: str) -> T:
        text = self._raw(name)
        if not text:
            return default
        try:
            return read(text)
        except (ValueError, KeyError):
            self.problem(name, f"{text!r} is not allowed; expected {allowed}")
            return default

    def _raw(self, name: str) -> str:
        if name not in self.names:
            self.names.append(name)
        file = os.environ.get(f"{name}_FILE")
        if file and not Path(file).is_file():
            self.problem(f"{name}_FILE", f"there is no readable file {file}")
            return ""
        return str(self._env.get_value(name, default="")).strip()
