"""How a table fits into a terminal: no id is cut, no word is broken, nothing is said in every row."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

GAP = 2
"""Blanks between columns."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Columns with their rows and widths; `same` holds the columns whose value is equal in every row.

    `widths` is empty where the columns do not fit beside each other: then each row is a block of lines.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    same: tuple[tuple[str, str], ...]
    widths: tuple[int, ...]


def fit(
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    width: int,
    *,
    fold_first: bool = False,
    stay: Collection[str] = (),
) -> Layout:
    """Lay a table out in so many columns of characters. The first column always stays, and in one line.

    So do the columns `stay`, also where their value is equal in every row: readers look for them.

    A cell may be folded between its words, where a no-break space joins two; never within one.
    With `fold_first` so may those of the first column.
    """
    same, kept = [], [0]
    for number in range(1, len(columns)):
        cells = {row[number] for row in rows}
        if cells == {""}:
            continue
        if len(cells) == 1 and len(rows) > 1 and columns[number] not in stay:
            same.append((columns[number], cells.pop()))
        else:
            kept.append(number)
    names = tuple(columns[number] for number in kept)
    shown = tuple(tuple(row[number] for number in kept) for row in rows)
    return Layout(names, shown, tuple(same), _widths(names, shown, width, fold_first=fold_first))


def fit_most(
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    width: int,
    *,
    needed: int,
    fold_first: bool = False,
    stay: Collection[str] = (),
) -> tuple[Layout, tuple[str, ...]]:
    """Lay a table out without its last columns where those have no room, but with the first `needed` ones.

    With `fold_first` a further column may fold others, else only the needed ones fold each other. Returns
    which columns that say something were left out, too.
    """
    whole = fit(columns, rows, width, fold_first=fold_first, stay=stay)
    layout, count = whole, len(columns)
    while count > needed and not (layout.widths and (fold_first or _in_one_line(layout))):
        count -= 1
        part = [row[:count] for row in rows]
        layout = fit(columns[:count], part, width, fold_first=fold_first, stay=stay)
    # What is equal in every row is said below the table, wherever its column stands.
    layout = replace(layout, same=whole.same)
    return layout, tuple(name for name in whole.columns if name not in layout.columns)


def _in_one_line(layout: Layout) -> bool:
    rows = (layout.columns, *layout.rows)
    return all(len(cell) <= width for row in rows for cell, width in zip(row, layout.widths, strict=True))


def _widths(
    columns: Sequence[str], rows: Sequence[Sequence[str]], width: int, *, fold_first: bool
) -> tuple[int, ...]:
    """Return the width of each column; empty where even the longest words of all do not fit."""
    cells = [[name, *(row[number] for row in rows)] for number, name in enumerate(columns)]
    widths = [max(map(len, column)) for column in cells]
    least = [max(len(word) for cell in column for word in cell.split(" ")) for column in cells]
    if not fold_first:
        least[0] = widths[0]
    room = width - GAP * (len(columns) - 1)
    if sum(least) > room:
        return ()
    while sum(widths) > room:
        spare = [have - need for have, need in zip(widths, least, strict=True)]
        # Take from the widest that can spare something: short columns keep their line.
        number = max(range(len(widths)), key=lambda one: (spare[one] > 0, widths[one]))
        widths[number] -= 1
    return tuple(widths)


def folded(cell: str, width: int) -> list[str]:
    """Return the lines of a cell, folded at blanks only."""
    lines = [""]
    for word in cell.split(" "):
        longer = f"{lines[-1]} {word}" if lines[-1] else word
        if len(longer) <= width or not lines[-1]:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines


def lines(layout: Layout, numbers: Collection[str] = ()) -> Iterator[tuple[int, str, str]]:
    """Yield the lines of a table: the number of its row, from 0, the first cell's part, and the rest.

    The names of the columns come first, as row -1, where the columns stand beside each other. `numbers`
    are the columns that are aligned to the right.
    """
    if not layout.widths:
        yield from _blocks(layout)
        return
    for number, row in enumerate((layout.columns, *layout.rows), start=-1):
        cells = [folded(cell, width) for cell, width in zip(row, layout.widths, strict=True)]
        for height in range(max(map(len, cells))):
            parts = [
                f"{cell[height] if height < len(cell) else '':{'>' if name in numbers else '<'}{width}}"
                for name, cell, width in zip(layout.columns, cells, layout.widths, strict=True)
            ]
            rest = (" " * GAP + (" " * GAP).join(parts[1:])).rstrip()
            yield number, parts[0] if rest else parts[0].rstrip(), rest


def _blocks(layout: Layout) -> Iterator[tuple[int, str, str]]:
    width = max(map(len, layout.columns))
    for number, row in enumerate(layout.rows):
        yield number, row[0], ""
        for name, cell in zip(layout.columns[1:], row[1:], strict=True):
            if cell:
                yield number, "", f"  {name:<{width}}  {cell}"
