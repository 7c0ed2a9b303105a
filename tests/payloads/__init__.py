"""Payloads as lead sources post them, whole."""

import json
from pathlib import Path
from typing import Any

_FOLDER = Path(__file__).parent


def load(name: str) -> Any:
    """Return the JSON value of `tests/payloads/<name>.json`, a fresh one at every call."""
    return json.loads((_FOLDER / f"{name}.json").read_text(encoding="utf-8"))
