"""The params of a model's signature, as a request sends them."""

from __future__ import annotations

import pytest

from ml_platform.v1 import models_pb2
from ml_platform_server.errors import PlatformError
from ml_platform_server.serving.inputs.params import converted

SPECS = [models_pb2.ParamSpec(name="factor", type="double")]


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("\u200b", "its name holds the character U+200B, which nobody can see"),
        ("fac\u200btor", "its name holds the character U+200B, which nobody can see"),
        (" ", "its name must not be blank"),
        ("factr", "factor"),
    ],
)
def test_a_name_that_is_no_param_says_what_is_wrong_with_it(name: str, told: str) -> None:
    """A character that nobody can see is named by its code point; other names are held against those of the signature."""
    with pytest.raises(PlatformError) as caught:
        converted(SPECS, {name: 2.0})
    assert told in caught.value.violations[0].description


def test_a_number_that_no_double_holds_is_out_of_range() -> None:
    """As it is among the inputs."""
    with pytest.raises(PlatformError) as caught:
        converted(SPECS, {"factor": str(10**400)})
    assert caught.value.violations[0].description == "expected a number within the range of a double"
