"""The order of the interceptors."""

from __future__ import annotations

import pytest

from ml_platform_server.interceptors.chain import Chain
from ml_platform_server.method import ContractError, Handler, Method


class Outer:
    """Does nothing."""

    def wrap(self, method: Method, continuation: Handler) -> Handler:
        return continuation


class Inner(Outer):
    """The same under another name."""


def test_a_chain_names_its_interceptors_in_their_order() -> None:
    """As a call meets them."""
    assert Chain((Outer(), Inner())).names == ("Outer", "Inner")


def test_an_interceptor_stands_once_in_a_chain() -> None:
    """Else each call would be counted or limited twice."""
    with pytest.raises(ContractError, match="Outer stands twice"):
        Chain((Outer(), Inner(), Outer()))
