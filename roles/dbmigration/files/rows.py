"""Rows for the tables of a reflected schema: the same seed gives the same rows, and all keys hold.

What stands in row `i` of a column is worked out from the seed, the column and `i`; a column that refers to
another table takes what stands there. So nothing has to be kept, and a row that would break a unique key is
left out. What a schema does not say of itself (references without a foreign key, text that has a form) comes
as `Facts`.
"""

from __future__ import annotations

import datetime as dt
import decimal
import hashlib
import string
import zlib
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.dialects.mysql import TINYINT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

BATCH = 1000
IMPLICIT = 0.1
"""Rows, as a multiple of the size, of a table that nobody asked for and that others refer to."""
WORDS = 50
"""Different values of text that is neither a key nor an id: few, as in real databases."""
_EPOCH = dt.datetime(2024, 1, 1)  # noqa: DTZ001 - databases of OpenStack hold naive UTC
_DIGITS = string.digits + string.ascii_lowercase
_SMALL = (TINYINT, sa.SmallInteger)
"""Whole numbers that are no row's number; in keys they stand beside what tells rows apart."""
_UUID, _HEX = 36, 32
_BYTE = 8


class Reference(NamedTuple):
    """Columns of a table that take their values from columns of one row of another."""

    columns: tuple[str, ...]
    table: str
    referred: tuple[str, ...]
    optional: bool


class SchemaUnknown(Exception):
    """The schema has no such table, or can't be filled."""


@dataclass(frozen=True)
class Facts:
    """What a schema does not say of itself, by table.

    `references` are columns that refer to others without a foreign key, `values` text and numbers that must
    have a form.
    """

    references: Mapping[str, tuple[Reference, ...]] = field(default_factory=dict)
    values: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


class Generator:
    """Rows of one database."""

    def __init__(self, metadata: sa.MetaData, facts: Facts, *, seed: int, deleted: float) -> None:
        self.metadata, self.facts, self.seed, self.deleted = metadata, facts, seed, deleted
        self.rows: dict[str, list[int]] = {}
        """The numbers of the rows that each table has."""
        self.tables = sa.schema.sort_tables(
            sorted(metadata.tables.values(), key=lambda table: table.name),
            extra_dependencies=[
                (metadata.tables[reference.table], metadata.tables[name])
                for name, references in facts.references.items()
                for reference in references
                if reference.table != name
            ],
        )
        """All tables, those that others refer to first."""
        self._columns: dict[tuple[str, str], Callable[[int], Any]] = {}

    def plan(self, tables: Mapping[str, float], size: int) -> dict[str, int]:
        """Return how many rows each table gets, those that others refer to first. Raises SchemaUnknown."""
        if unknown := sorted(set(tables) - set(self.metadata.tables)):
            raise SchemaUnknown(f"the schema has no table {', '.join(unknown)}")
        counts = {name: max(1, round(size * factor)) for name, factor in tables.items()}
        for table in reversed(self.tables):
            if table.name not in counts:
                continue
            for reference in self.references(table):
                if reference.table in tables or (reference.optional and reference.table not in counts):
                    continue
                alone = any(set(reference.columns) >= key for key in unique_keys(table))
                least = counts[table.name] if alone else max(1, round(size * IMPLICIT))
                counts[reference.table] = max(least, counts.get(reference.table, 0))
        return {table.name: counts[table.name] for table in self.tables if table.name in counts}

    def fill(self, connection: sa.Connection, counts: Mapping[str, int]) -> dict[str, int]:
        """Insert the rows; return how many there are by table: fewer where keys allow no more."""
        for name, count in counts.items():
            table = self.metadata.tables[name]
            rows = self.generate(table, count)
            while batch := list(islice(rows, BATCH)):
                connection.execute(table.insert(), batch)
            connection.commit()
        return {name: len(self.rows[name]) for name in counts}

    def generate(self, table: sa.Table, count: int) -> Iterator[dict[str, Any]]:
        """Generate the rows of a table whose references have been generated."""
        taken = self.rows[table.name] = []
        keys: list[tuple[tuple[str, ...], set[tuple[Any, ...]]]] = [
            (tuple(sorted(key)), set()) for key in unique_keys(table)
        ]
        cells = [(column.name, self._cell(table, column.name)) for column in table.columns]
        for i in range(count):
            row = {name: cell(i) for name, cell in cells}
            found = [(seen, tuple(row[name] for name in names)) for names, seen in keys]
            if any(key in seen for seen, key in found if None not in key):
                continue
            for seen, key in found:
                seen.add(key)
            taken.append(i)
            yield row

    def references(self, table: sa.Table) -> list[Reference]:
        """Return what a table refers to, in the order of its columns."""
        declared = [
            Reference(
                tuple(constraint.column_keys),
                constraint.referred_table.name,
                tuple(element.column.name for element in constraint.elements),
                all(table.columns[name].nullable for name in constraint.column_keys),
            )
            for constraint in table.foreign_key_constraints
        ]
        return sorted([*declared, *self.facts.references.get(table.name, ())])

    def _cell(self, table: sa.Table, name: str) -> Callable[[int], Any]:
        """Return what stands in the rows of a column."""
        if (table.name, name) not in self._columns:
            self._columns[table.name, name] = self._made(table, name)
        return self._columns[table.name, name]

    def _made(self, table: sa.Table, name: str) -> Callable[[int], Any]:
        column = table.columns[name]
        fixed = self.facts.values.get(table.name, {})
        if name in fixed:
            value = fixed[name]
            return lambda _: value
        if name in {"deleted", "deleted_at"} and "deleted" in table.columns:
            return self._soft_deletion(table, column)
        references = self.references(table)
        for number, reference in enumerate(references):
            if name in reference.columns:
                return self._referred(table, reference, number, name)
        return self._plain(table, column)

    def _referred(
        self, table: sa.Table, reference: Reference, number: int, name: str
    ) -> Callable[[int], Any]:
        target = reference.referred[reference.columns.index(name)]
        if reference.table == table.name:
            own = None if reference.optional else self._cell(table, target)
            return (lambda _: None) if own is None else own
        rows = self.rows.get(reference.table)
        if not rows:
            if reference.optional:
                return lambda _: None
            raise SchemaUnknown(f"{table.name}.{name} refers to {reference.table}, which has no rows")
        there, total = self._cell(self.metadata.tables[reference.table], target), len(rows)
        # One after the other, and each further reference shifted by one per round: pairs are seldom the same.
        return lambda i: there(rows[(i + number * (i // total)) % total])

    def _soft_deletion(self, table: sa.Table, column: sa.Column[Any]) -> Callable[[int], Any]:
        where = f"{self.seed}:{table.name}.deleted:"

        def gone(i: int) -> bool:
            return zlib.crc32(f"{where}{i}".encode()) / 2**32 < self.deleted

        if column.name == "deleted_at":
            return lambda i: _EPOCH + dt.timedelta(hours=i) if gone(i) else None
        if isinstance(column.type, sa.String):
            return lambda i: _uuid(f"{where}{i}") if gone(i) else ""
        if _is_boolean(column.type):
            return lambda i: int(gone(i))
        return lambda i: i + 1 if gone(i) else 0  # as nova does it: the row's own id

    def _plain(self, table: sa.Table, column: sa.Column[Any]) -> Callable[[int], Any]:
        """Return values by type: different ones in keys, few ones elsewhere."""
        where, kind = f"{self.seed}:{table.name}.{column.name}:", column.type
        unique = any(column.name in key for key in unique_keys(table))

        def mixed(i: int) -> int:
            return zlib.crc32(f"{where}{i}".encode())

        if isinstance(kind, sa.Enum):
            return lambda i: kind.enums[mixed(i) % len(kind.enums)]
        if isinstance(kind, sa.Text) or (isinstance(kind, sa.String) and kind.length is None):
            return lambda _: "{}"  # most text of OpenStack is JSON
        if isinstance(kind, sa.String):
            length = int(kind.length or 1)
            if unique or column.name.endswith("id"):
                return lambda i: _key(f"{where}{i}", i, length)
            return lambda i: f"{column.name}-{mixed(i) % WORDS}"[-length:]
        if isinstance(kind, sa.Integer) and unique and not isinstance(kind, _SMALL):
            return lambda i: i + 1
        return self._other(kind, mixed)

    def _other(self, kind: Any, mixed: Callable[[int], int]) -> Callable[[int], Any]:
        """Return values that need not differ. Raises SchemaUnknown."""
        rules: tuple[tuple[type[Any], Callable[[int], Any]], ...] = (
            (sa.Boolean, lambda i: mixed(i) & 1),
            (sa.Integer, lambda i: mixed(i) & 1 if _is_boolean(kind) else mixed(i) % 100),
            (sa.DateTime, lambda i: _EPOCH + dt.timedelta(minutes=i)),
            (sa.Date, lambda i: (_EPOCH + dt.timedelta(days=i % 1000)).date()),
            (sa.Time, lambda i: (_EPOCH + dt.timedelta(minutes=i)).time()),
            (sa.Float, lambda i: mixed(i) % 1000 / 10),
            (sa.Numeric, lambda i: decimal.Decimal(mixed(i) % 100)),
            (sa.LargeBinary, lambda i: str(mixed(i)).encode()),
        )
        for known, rule in rules:
            if isinstance(kind, known):
                return rule
        raise SchemaUnknown(f"no rule for values of the type {kind!r}")


def unique_keys(table: sa.Table) -> set[frozenset[str]]:
    """Return the sets of columns that no two rows may have in common."""
    found = [[column.name for column in table.primary_key.columns]]
    found += [[column.name for column in index.columns] for index in table.indexes if index.unique]
    found += [
        [column.name for column in constraint.columns]
        for constraint in table.constraints
        if isinstance(constraint, sa.UniqueConstraint)
    ]
    return {frozenset(names) for names in found if names}


def _is_boolean(kind: Any) -> bool:
    """Say whether a reflected type is what MariaDB makes of BOOL."""
    return isinstance(kind, sa.Boolean) or getattr(kind, "display_width", None) == 1


def _uuid(text: str) -> str:
    digits = hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


def _key(text: str, i: int, length: int) -> str:
    """Return text that is another one for each row, of the form that ids of this length have."""
    if length >= _UUID:
        return _uuid(text)
    if length >= _HEX:
        return _uuid(text).replace("-", "")
    return _base36(i).rjust(min(length, _BYTE), "0")[-length:]


def _base36(number: int) -> str:
    digits = ""
    while number or not digits:
        number, rest = divmod(number, len(_DIGITS))
        digits = _DIGITS[rest] + digits
    return digits
