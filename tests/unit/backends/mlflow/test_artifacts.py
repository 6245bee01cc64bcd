"""What a version's files say of its columns."""

from __future__ import annotations

import pytest
from mlflow.types.schema import ColSpec

from ml_platform_server.backends.mlflow.artifacts import _column


@pytest.mark.parametrize(("name", "told"), [(0, "0"), (1, "1"), ("amount", "amount"), (None, "")], ids=repr)
def test_columns_may_have_numbers_for_names(name: int | str | None, told: str) -> None:
    """As those of a frame without names, whose first is 0."""
    assert _column(ColSpec("double", name)).name == told  # type: ignore[arg-type]  # it takes numbers, and pandas gives them
