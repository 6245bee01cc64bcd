"""The INPUT_MISSING error."""

from __future__ import annotations

from collections.abc import Sequence

from ml_platform.v1 import errors_pb2
from ml_platform_server.errors import PlatformError, Violation
from ml_platform_server.serving.features.binding import Binding
from ml_platform_server.serving.inputs.signature import MOST_NAMED, Column
from ml_platform_server.similar_names import did_you_mean


def raise_missing_inputs(
    columns: Sequence[Column],
    lacking: Sequence[int],
    keys: Sequence[str] = (),
    supplied: Sequence[int] = (),
    binding: Binding | None = None,
    *,
    unused: Sequence[str] = (),
) -> None:
    """Raise INPUT_MISSING if required columns or join keys were not sent. The error lists all of them.

    Args:
        columns: the columns of the model.
        lacking: positions of the columns that were not sent and that no feature supplies.
        keys: the join keys that were not sent.
        supplied: positions of the columns that features would have supplied.
        binding: the binding of these columns.
        unused: the unused inputs of the request, searched for misspelt names.
    """
    required = [columns[at] for at in lacking if columns[at].required]
    if not required and not keys:
        return
    more = f" and {len(required) - MOST_NAMED} more columns" if len(required) > MOST_NAMED else ""
    required = required[:MOST_NAMED]
    by_key = {key: _names(columns, binding.looked_up_by(key, supplied) or supplied) for key in keys} if binding else {}
    violations = [Violation(f"inputs.{column.name}", f"the model needs it ({column.type})") for column in required]
    violations += [Violation(f"inputs.{key}", f"the join key that looks up {names}") for key, names in by_key.items()]
    missing = [column.name for column in required]
    missing += [f"{key} (by which {names} would be looked up)" for key, names in by_key.items()]
    raise PlatformError(
        errors_pb2.ERROR_REASON_INPUT_MISSING,
        f"The inputs lack {', '.join(missing)}{more}.{did_you_mean([*(column.name for column in required), *keys], unused)}",
        remedy=_remedy(columns, keys, supplied, binding),
        violations=violations,
    )


def _remedy(columns: Sequence[Column], keys: Sequence[str], supplied: Sequence[int], binding: Binding | None) -> str:
    if not keys or binding is None:
        return "Send every column that no feature supplies."
    hidden = {column for key in keys for column in binding.looked_up_by(key, supplied)}
    names = _names(columns, [column for column in supplied if column in hidden] or supplied)
    return f"Send the join key{'s' if len(keys) > 1 else ''}, or {names} themselves."


def _names(columns: Sequence[Column], at: Sequence[int]) -> str:
    return ", ".join(columns[column].name for column in at)
