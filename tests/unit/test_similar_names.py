"""What a misspelt name was probably meant to be, found without holding up the event loop."""

from __future__ import annotations

import time

import pytest

from ml_platform_server.similar_names import closest, did_you_mean


@pytest.mark.parametrize(
    ("name", "found"),
    [("amout", "amount"), ("AMOUNT", "amount"), ("merchant-id", "merchant_id"), ("xyz", None), ("", None), ("a" * 10_000, None)],
)
def test_the_closest_name(name, found):
    """The name that is alike but for a letter, case or a dash; none if none is."""
    assert closest(name, ["user_id", "merchant_id", "amount"]) == found


def test_nothing_is_close_to_no_names():
    """Without names there is none, and names of great length are not looked at."""
    assert closest("amount", []) is None
    assert closest("amount", ["amount" * 1000]) is None


def test_did_you_mean_names_both():
    """A sentence for each wanted name that something sent resembles."""
    assert did_you_mean(["amount", "hour"], ["amuont", "colour_of_eyes"]) == " Did you mean amount: you sent amuont?"


def test_names_made_to_take_long_do_not():
    """Names of the same letters in another order, which difflib takes 0.3 ms a pair to tell apart."""
    wanted = ["ab" * 31 + chr(97 + number) * 2 for number in range(20)]
    sent = ["ba" * 31 + chr(97 + number % 26) * 2 for number in range(5000)]
    start = time.thread_time()
    did_you_mean(wanted, sent)
    assert time.thread_time() - start < 0.05
