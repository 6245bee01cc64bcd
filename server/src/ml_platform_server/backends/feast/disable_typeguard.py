"""Keeps Feast from checking its own argument types at run time.

Feast decorates its classes with typeguard's `typechecked`, which parses and rewrites their source when they are imported: two
thirds of the time that importing Feast takes. It then checks every call within Feast, on each online read too. What comes in from
callers is checked by us, and our calls to Feast are checked by mypy.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import typeguard


def install() -> None:
    """Let `from typeguard import typechecked`, from now on in this process, give a decorator that leaves everything as it is."""
    typeguard.typechecked = _as_it_is


def _as_it_is(target: Any = None, **options: object) -> Any:  # noqa: ANN401  # whatever is decorated
    """Like typeguard's own decorator when Python runs with -O."""
    return partial(_as_it_is, **options) if target is None else target
