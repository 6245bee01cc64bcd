"""How orders and page tokens are read, and orders checked."""

from __future__ import annotations

import base64

import pytest

from ml_platform_server.backends.mlflow.run_searches import order
from ml_platform_server.backends.mlflow.searches import page_after
from tests.support.refusals import refused

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


def token(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


@pytest.mark.parametrize("given", [token('{"offset": 0}'), token('{"offset": 100}'), token("no JSON"), "garbage"])
def test_tokens_that_mlflow_can_judge_are_left_to_it(given: str) -> None:
    """It gave them, or it refuses them by itself."""
    assert page_after(given) == given


def test_no_token_is_the_first_page() -> None:
    """MLflow takes None for it."""
    assert page_after("") is None


@pytest.mark.parametrize(
    "given",
    ["é", token("[]"), token("1"), *(token(f'{{"offset": {offset}}}') for offset in ('"x"', "-5", "1e30", "1" + "0" * 30))],
)
def test_tokens_that_mlflow_falls_over_never_reach_it(given: str) -> None:
    """It would answer with status 500, as if it were down."""
    with refused("PAGE_TOKEN_INVALID"):
        page_after(given)
