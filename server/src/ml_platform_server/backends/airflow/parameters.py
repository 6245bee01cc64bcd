"""A pipeline's parameters as its DAG declares them: what a value may be, and which names are probably misspelt."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from ml_platform.v1 import errors_pb2
from ml_platform_server.errors import PlatformError, Violation
from ml_platform_server.similar_names import closest

LONGEST_VALUE = 100
"""Characters of a value that an error quotes."""

NEAR = 0.8
"""How alike two names must be for one to be a misspelling of the other."""

_REFUSED = re.compile(r"Invalid input for param ([^:\s]+)")
_TYPES = {
    "number": "a number", "integer": "an integer", "string": "a string", "boolean": "true or false", "array": "a list",
    "object": "an object", "null": "null",
}  # fmt: skip
_BOUNDS = {
    "exclusiveMinimum": "above {}", "minimum": "at least {}", "exclusiveMaximum": "below {}", "maximum": "at most {}",
    "multipleOf": "a multiple of {}", "minLength": "at least {} characters long", "maxLength": "at most {} characters long",
    "minItems": "at least {} items long", "maxItems": "at most {} items long", "pattern": "matching {}",
    "format": "written as a {}",
}  # fmt: skip
_ANNOTATIONS = frozenset({
    "title", "description", "description_md", "section", "examples", "default", "values_display", "custom_html_form", "$schema",
})  # fmt: skip


def refused_parameter(detail: str) -> str:
    """The parameter that the pipeline's own declaration does not allow, as Airflow's refusal names it; empty if it names none."""
    found = _REFUSED.search(detail)
    return found.group(1) if found else ""


def refusal(name: str, conf: Mapping[str, Any], declared: Mapping[str, Any]) -> PlatformError:
    """The error for a parameter that its declaration does not allow: what came, and what is allowed."""
    declaration = declared.get(name)
    schema = declaration.get("schema") if isinstance(declaration, Mapping) else None
    allowed = allowed_values(schema) if isinstance(schema, Mapping) else ""
    came = f"is {_quoted(conf[name])}" if name in conf else "is missing"
    description = (
        f"{came}; the pipeline wants {allowed}" if allowed else f"{came}, which the pipeline's declaration does not allow"
    )
    return _invalid([Violation(f"parameters.{name}", description)])


def allowed_values(schema: Mapping[str, Any]) -> str:
    """What a JSON schema allows, in words; parts that have no words are quoted as they are. Empty if it allows everything."""
    rest = {key: value for key, value in schema.items() if key not in _ANNOTATIONS}
    if "const" in rest:
        return _quoted(rest["const"])
    if values := rest.pop("enum", None):
        return f"one of {', '.join(map(_quoted, values))}"
    types = rest.pop("type", [])
    kinds = " or ".join(_TYPES.get(kind, str(kind)) for kind in ([types] if isinstance(types, str) else types))
    bounds = [words.format(rest.pop(key)) for key, words in _BOUNDS.items() if key in rest]
    if rest:
        bounds.append(f"as the JSON schema {_quoted(rest)} has it")
    return " ".join(filter(None, [kinds or ("a value" if bounds else ""), " and ".join(bounds)]))


def undeclared(names: Collection[str], declared: Collection[str]) -> list[str]:
    """The names that a pipeline does not declare although it declares others; it is given them, and may read them or not.

    Raises:
        PlatformError: INVALID_FIELDS for those that are probably a misspelt declared name that is missing.
    """
    if not declared:
        return []
    strangers = [name for name in names if name not in declared]
    absent = [name for name in declared if name not in names]
    misspelt = list(_misspelt(strangers, absent))
    if misspelt:
        raise _invalid(misspelt)
    return sorted(strangers)


def _misspelt(strangers: Collection[str], absent: Collection[str]) -> Iterator[Violation]:
    for stranger in strangers:
        near = closest(stranger, absent, similar=NEAR, fold=_folded)
        # Names that differ in their numbers are brothers, not misspellings.
        if near and re.findall(r"\d+", near) == re.findall(r"\d+", stranger):
            description = f"is no parameter of the pipeline; did you mean {near!r}?"
            yield Violation(f"parameters.{stranger}", description)


def _folded(name: str) -> str:
    return re.sub(r"[_.\s-]", "", name.casefold())


def _quoted(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= LONGEST_VALUE else f"{text[: LONGEST_VALUE - 1]}…"


def _invalid(violations: list[Violation]) -> PlatformError:
    return PlatformError(
        errors_pb2.ERROR_REASON_INVALID_FIELDS,
        " ".join(
            f"{violation.field}: {violation.description.rstrip('?')}{'?' if violation.description.endswith('?') else '.'}"
            for violation in violations
        ),
        remedy="Correct the parameters and call again.",
        violations=violations,
    )
