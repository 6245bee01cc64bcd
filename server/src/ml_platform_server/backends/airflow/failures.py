"""Why a task failed and why a file cannot be imported, in the one line of the user's own exception that says it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow_client.client import ImportErrorResponse

LONGEST_REASON = 500
"""Characters of an exception that are worth telling in one sentence."""


def reason_in_log(entries: Iterable[Any]) -> str:
    """The exception that ended an attempt, as "ValueError: no rows"; empty when the log tells of none.

    An entry that Airflow writes for an uncaught exception holds the exceptions of the chain, the outermost first.
    """
    reason = ""
    for entry in entries:
        chain = entry.get("error_detail") if isinstance(entry, Mapping) else None
        if chain and isinstance(chain[0], Mapping):
            reason = _one_line(f"{chain[0].get('exc_type', '')}: {chain[0].get('exc_value', '')}")
    return reason


def reason_in_traceback(traceback: str) -> str:
    """The last line of a traceback that says something."""
    lines = [line for line in traceback.splitlines() if line and not line.startswith((" ", "\t"))]
    return _one_line(lines[-1]) if lines else ""


def broken_file(pipeline: str, errors: Iterable[ImportErrorResponse]) -> ImportErrorResponse | None:
    """The file that fails to import and seems to hold a pipeline that Airflow has never seen.

    Airflow cannot know which pipelines a file would have held. All there is to go by is a file named like the pipeline, or a
    traceback that names it.
    """
    word = re.compile(rf"(?<![\w.-]){re.escape(pipeline)}(?![\w-])")
    for error in errors:
        path = PurePath(error.filename)
        if pipeline in (path.stem, path.parent.name) or word.search(error.stack_trace):
            return error
    return None


def _one_line(text: str) -> str:
    line = " ".join(text.split()).rstrip(": ")
    return line if len(line) <= LONGEST_REASON else line[: LONGEST_REASON - 1].rstrip() + "…"
