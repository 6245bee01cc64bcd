"""Shows results to people: short lines, tables for terminals, HTML for notebooks. Nothing is cut in the results themselves."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from html import escape
from typing import Any

# Characters of a line, of a table's cell, and of an HTML cell.
LINE, CELL, HTML_CELL = 240, 40, 400
# Rows of a table; a count follows for the others.
ROWS = 20
# Entries of a dictionary or list within a cell.
ENTRIES = 3
_EMPTY: tuple[object, ...] = (None, "", (), [], {})


def line(name: str, fields: Mapping[str, Any]) -> str:
    """A record in one line: the fields that are set, long values shortened, as many as fit."""
    parts: list[str] = []
    for key, value in fields.items():
        if value in _EMPTY:
            continue
        # A shortened link would open nothing.
        part = f"{key}={value!r}" if key == "url" else f"{key}={_shown(value, quoted=True)}"
        if sum(map(len, parts)) + 2 * len(parts) + len(part) > LINE:
            parts.append("...")
            break
        parts.append(part)
    return f"{name}({', '.join(parts)})"


def table(records: Sequence[Any]) -> str:
    """Records as a table that fits the terminal: the columns in which something is set, as many as there is room for."""
    columns = _columns(records)
    cells = [[_cell(name, _field(record, name)) for name in columns] for record in records[:ROWS]]
    widths = [max(map(len, column)) for column in zip(columns, *cells, strict=True)]
    shown, room = 0, shutil.get_terminal_size((120, 24)).columns
    while shown < len(widths) and (shown == 0 or sum(widths[: shown + 1]) + 2 * shown <= room):
        shown += 1
    rows = [[cell.ljust(width) for cell, width in zip(row[:shown], widths, strict=False)] for row in (columns, *cells)]
    lines = ["  ".join(row).rstrip() for row in rows]
    more = len(records) - ROWS
    return "\n".join([*lines, f"... and {more} more"] if more > 0 else lines)


def html_table(records: Sequence[Any]) -> str:
    """Records as an HTML table."""
    columns = _columns(records)
    head = "".join(f"<th>{escape(name)}</th>" for name in columns)
    rows = ("".join(f"<td>{_html(name, _field(record, name))}</td>" for name in columns) for record in records[:ROWS])
    more = len(records) - ROWS
    foot = f"<p>... and {more} more</p>" if more > 0 else ""
    return f"<table><thead><tr>{head}</tr></thead><tbody>{_joined(rows)}</tbody></table>{foot}"


def html_record(name: str, fields: Mapping[str, Any]) -> str:
    """A record as an HTML table of its fields."""
    rows = (f"<th>{escape(key)}</th><td>{_html(key, value)}</td>" for key, value in fields.items() if value not in _EMPTY)
    return f"<table><caption>{escape(name)}</caption><tbody>{_joined(rows)}</tbody></table>"


def _columns(records: Sequence[Any]) -> list[str]:
    """The names of all fields, in their order, that are set in one of the records; `error` for errors among them."""
    shown = records[:ROWS]
    names = dict.fromkeys(name for record in shown for name in (record if isinstance(record, Mapping) else ("error",)))
    return [name for name in names if any(_field(record, name) not in _EMPTY for record in shown)]


def _field(record: object, name: str) -> Any:  # noqa: ANN401  # each field has its own type
    if isinstance(record, Mapping):
        return record.get(name)
    return str(record) if name == "error" else None


def _cell(name: str, value: object) -> str:
    return str(value or "") if name == "url" else _clipped(_shown(value), CELL)


def _shown(value: object, *, quoted: bool = False) -> str:
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M:%S}"
    if isinstance(value, Mapping):
        return "{" + _entries([f"{key}: {_shown(item)}" for key, item in value.items()]) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + _entries([_shown(item) for item in value]) + "]"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, str):
        text = _clipped(value, 2 * CELL)
        return repr(text) if quoted else " ".join(text.split())
    return "" if value is None and not quoted else str(value)


def _entries(items: Sequence[str]) -> str:
    more = len(items) - ENTRIES
    return ", ".join([*(_clipped(item, CELL) for item in items[:ENTRIES]), *([f"and {more} more"] if more > 0 else [])])


def _clipped(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 3] + "..."


def _html(name: str, value: object) -> str:
    if name == "url" and isinstance(value, str) and value.startswith(("http://", "https://")):
        return f'<a href="{escape(value)}" target="_blank">{escape(value)}</a>'
    return escape(_clipped(_shown(value), HTML_CELL))


def _joined(rows: Iterable[str]) -> str:
    return "".join(f"<tr>{row}</tr>" for row in rows)
