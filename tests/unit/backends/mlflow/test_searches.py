"""How orders are read."""

from __future__ import annotations

import pytest

from ml_platform_server.backends.mlflow.searches import order

NEWEST_FIRST = ["attributes.start_time DESC"]


@pytest.mark.parametrize(
    ("order_by", "keys"),
    [
        ("", NEWEST_FIRST),
        (" , ,", NEWEST_FIRST),
        ("metrics.accuracy DESC", ["metrics.accuracy DESC"]),
        ("metrics.a DESC, params.b", ["metrics.a DESC", "params.b"]),
        ("metrics.`a, b` DESC,params.c", ["metrics.`a, b` DESC", "params.c"]),
        ('metrics."a,b"', ['metrics."a,b"']),
    ],
)
def test_commas_part_the_keys_except_within_quotes(order_by: str, keys: list[str]) -> None:
    """No key at all means the newest first."""
    assert order(order_by) == keys
