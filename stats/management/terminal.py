"""Plain text for a terminal: aligned columns whose last one wraps, and nothing a terminal would take as a command."""

import shutil
import textwrap
from collections.abc import Sequence

_GAP = "  "
_NARROWEST = 20


def width() -> int:
    """Return the columns there are: the terminal's, or 80 where there is none."""
    return shutil.get_terminal_size((80, 24)).columns


def table(rows: Sequence[Sequence[str]], *, columns: int, right: Sequence[int] = ()) -> str:
    """Lay rows out in aligned columns; the last cell of a row wraps below itself to stay within `columns`.

    :param right: the indexes of the cells that are numbers and end on the right.
    """
    clean = [[printable(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in list(zip(*clean, strict=True))[:-1]]
    return "\n".join(_row(row, widths, columns=columns, right=right) for row in clean)


def sentence(text: str, *, columns: int) -> str:
    """Wrap a sentence."""
    return textwrap.fill(printable(text), width=max(columns, _NARROWEST))


def printable(text: str) -> str:
    """Replace what a terminal would act upon rather than show; line breaks stay."""
    return "".join(sign if sign.isprintable() or sign == "\n" else "?" for sign in text)


def shortened(text: str, longest: int) -> str:
    """Cut a text that is longer than `longest`, and show that it was cut."""
    return text if len(text) <= longest else f"{text[: longest - 1]}~"


def _row(row: list[str], widths: list[int], *, columns: int, right: Sequence[int]) -> str:
    cells = [
        cell.rjust(size) if index in right else cell.ljust(size)
        for index, (cell, size) in enumerate(zip(row, widths, strict=False))
    ]
    indent = " " * (sum(widths) + len(_GAP) * len(widths))
    room = max(columns - len(indent), _NARROWEST)
    first, *others = textwrap.wrap(row[-1], room) or [""]
    return "\n".join([_GAP.join([*cells, first]).rstrip(), *(indent + other for other in others)])
