"""Plain text for a terminal: aligned columns, wrapped lines, and no control characters."""

import shutil
import textwrap
from collections.abc import Sequence

_GAP = "  "
_MIN_WIDTH = 20


def width() -> int:
    """Return the width of the terminal, or 80 if the output is no terminal."""
    return shutil.get_terminal_size((80, 24)).columns


def table(rows: Sequence[Sequence[str]], *, columns: int, right: Sequence[int] = ()) -> str:
    """Return rows in aligned columns. The last cell of a row wraps below itself to stay within `columns`.

    :param right: indexes of the cells to align on the right.
    """
    clean = [[printable(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in list(zip(*clean, strict=True))[:-1]]
    return "\n".join(_row(row, widths, columns=columns, right=right) for row in clean)


def sentence(text: str, *, columns: int) -> str:
    """Return a sentence wrapped to the width."""
    return textwrap.fill(printable(text), width=max(columns, _MIN_WIDTH))


def printable(text: str) -> str:
    """Replace control characters other than line breaks."""
    return "".join(sign if sign.isprintable() or sign == "\n" else "?" for sign in text)


def shortened(text: str, longest: int) -> str:
    """Cut a text that is longer than `longest` and mark the cut with `~`."""
    return text if len(text) <= longest else f"{text[: longest - 1]}~"


def _row(row: list[str], widths: list[int], *, columns: int, right: Sequence[int]) -> str:
    cells = [
        cell.rjust(size) if index in right else cell.ljust(size)
        for index, (cell, size) in enumerate(zip(row, widths, strict=False))
    ]
    indent = " " * (sum(widths) + len(_GAP) * len(widths))
    room = max(columns - len(indent), _MIN_WIDTH)
    first, *others = textwrap.wrap(row[-1], room) or [""]
    return "\n".join([_GAP.join([*cells, first]).rstrip(), *(indent + other for other in others)])
