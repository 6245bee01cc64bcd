"""Values that a model refuses but its converted ONNX graph accepts.

The deployment pipeline detects them and records them in the graph's metadata.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterator, Mapping

from ml_platform_server.serving.inputs.signature import CoercionError, Column, Convert, Refusal

PROPERTY = "ml_platform.refused"


def read(metadata: Mapping[str, str]) -> Mapping[str, Refusal]:
    """Read the refusals from a graph's metadata, by column name. Metadata is not validated, so malformed content is ignored."""
    try:
        kept = json.loads(metadata.get(PROPERTY, "{}"))
        return {
            str(name): Refusal(
                missing=str(each.get("missing", "")),
                largest=float(each.get("largest", math.inf)),
                beyond=str(each.get("beyond", "")),
            )
            for name, each in kept.items()
        }
    except (ValueError, TypeError, AttributeError):
        return {}


def refusing(column: Column, refusal: Refusal) -> Column:
    """A copy of the column that rejects the values its model refuses."""
    return dataclasses.replace(
        column,
        convert=_checked(column.convert, refusal),
        refusal=refusal,
        required=column.required or bool(refusal.missing),
    )


def _checked(before: Convert, refusal: Refusal) -> Convert:
    def convert(value: object) -> object:
        found = before(value)
        for number in _numbers(found):
            if number != number:  # noqa: PLR0124  # NaN differs from itself
                if refusal.missing:
                    raise CoercionError(f"the model refuses NaN ({refusal.missing})")
            elif abs(number) > refusal.largest:
                raise CoercionError(f"the model refuses infinity and numbers beyond {refusal.largest:.3g} ({refusal.beyond})")
        return found

    return convert


def _numbers(value: object) -> Iterator[float]:
    if isinstance(value, list):
        for item in value:
            yield from _numbers(item)
    elif isinstance(value, float):
        yield value
