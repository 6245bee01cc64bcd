"""Where the platform is and who is asking, and what is refused."""

from __future__ import annotations

import asyncio
import traceback
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from ml_platform import AsyncMLPlatform, ConfigurationError, InvalidArgument, MLPlatform
from ml_platform.channel import options
from ml_platform.config import Endpoint, parse_endpoint
from tests.support.fake_platform import FakePlatform


@pytest.mark.parametrize(
    ("url", "target", "tls"),
    [
        ("http://localhost:50051", "localhost:50051", False),
        ("https://ml.example.com", "ml.example.com:443", True),
        ("https://ml.example.com:8443/", "ml.example.com:8443", True),
        ("http://ml.example.com", "ml.example.com:50051", False),
        ("localhost:50051", "localhost:50051", False),
        ("127.0.0.1:1", "127.0.0.1:1", False),
        ("0.0.0.0:50051", "0.0.0.0:50051", False),
        ("[::1]:50051", "[::1]:50051", False),
        ("localhost", "localhost:50051", False),
        ("ml.example.com:50051", "ml.example.com:50051", True),
        ("ml.example.com", "ml.example.com:50051", True),
    ],
)
def test_an_address_is_read(url: str, target: str, tls: bool) -> None:
    """Schemes decide about TLS; without one, this machine's own addresses are plaintext and all others are TLS."""
    endpoint = parse_endpoint(url)
    assert (endpoint.target, endpoint.tls) == (target, tls)


@pytest.mark.parametrize(
    "url",
    [
        "ftp://host",
        "http://",
        "host:0",
        "host:99999",
        "host:port",
        "http://host/path",
        "http://me:pw@host",
        "a b:1",
        "http://h?q=1",
        "[::1",
    ],
)
def test_nonsense_is_refused(url: str) -> None:
    """What is no address is a ConfigurationError that shows how one is written."""
    with pytest.raises(ConfigurationError, match="http://host:port"):
        MLPlatform(url, "k")


@pytest.mark.parametrize(
    "url",
    [
        "http://user:s3cret@host",
        "user:s3cret@host:1",
        "ftp://user:s3cret@host",
        "http://user:s3cret@host:0",
        "http://u:a/s3cret@h",
        "http://u:s3cret@[::1",
    ],
)
def test_a_password_in_an_address_is_not_shown(url: str) -> None:
    """Whatever is wrong with an address, what may be a password in it is masked, in causes too."""
    with pytest.raises(ConfigurationError) as caught:
        MLPlatform(url, "k")
    assert "s3cret" not in "".join(traceback.format_exception(caught.value))
    assert "********@" in caught.value.message


@pytest.mark.parametrize(
    "given",
    [
        {"api_url": 5},
        {"api_url": Path("host")},
        {"api_key": 5},
        {"api_key": b"key"},
        {"timeout": "5"},
        {"timeout": None},
        {"timeout": True},
        {"retries": None},
        {"retries": 1.5},
        {"retries": "1"},
        {"ca_file": 5},
    ],
)
def test_arguments_of_other_types_are_named(given: dict[str, Any]) -> None:
    """An argument of the wrong type is an InvalidArgument that names it, whatever it is."""
    with pytest.raises(InvalidArgument, match=next(iter(given))):
        MLPlatform(**{"api_url": "localhost", "api_key": "k", **given})


def test_limits_of_other_types_are_named(fake: FakePlatform) -> None:
    """A limit that is no whole number from 1 is refused before anything is sent."""
    with MLPlatform(fake.url, "k") as platform:
        for limit in ("5", 0, 1.5, True):
            with pytest.raises(InvalidArgument, match="limit"):
                platform.list_models(limit=cast("int", limit))


@pytest.mark.parametrize("client", [MLPlatform, AsyncMLPlatform])
def test_the_environment_is_read(monkeypatch: pytest.MonkeyPatch, client: type[MLPlatform | AsyncMLPlatform]) -> None:
    """Address and key come from the environment unless they are given."""
    monkeypatch.setenv("ML_PLATFORM_API_URL", "http://localhost:1")
    monkeypatch.setenv("ML_PLATFORM_API_KEY", "from-the-environment")
    assert client().api_url == "http://localhost:1"
    assert client()._invoker.config.api_key == "from-the-environment"
    assert client("localhost:2", "given")._invoker.config.api_key == "given"
    assert client(api_url="localhost:2").api_url == "http://localhost:2"


def test_no_address_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without any address the error names the argument and the variable."""
    monkeypatch.delenv("ML_PLATFORM_API_URL", raising=False)
    with pytest.raises(ConfigurationError, match="ML_PLATFORM_API_URL"):
        MLPlatform()


@pytest.mark.parametrize("key", ["two words", "line\nbreak", "schlüssel"])
def test_a_key_that_cannot_be_one_is_refused_and_not_shown(key: str) -> None:
    """A key with characters that no header may hold is refused before it is sent, and stays out of the text."""
    with pytest.raises(ConfigurationError) as caught:
        MLPlatform("localhost", key)
    assert key not in str(caught.value)


def test_a_key_is_never_shown() -> None:
    """Neither the client nor its configuration show the key."""
    platform = MLPlatform("localhost:1", "mlp_secret")
    assert repr(platform) == "MLPlatform(api_url='http://localhost:1')"
    assert "mlp_secret" not in repr(platform._invoker.config)


@pytest.mark.parametrize("timeout", [0, -1, float("nan"), float("inf")])
def test_a_timeout_is_a_time(timeout: float) -> None:
    """Every call has a deadline: there is no way to ask for none."""
    with pytest.raises(ConfigurationError, match="timeout"):
        MLPlatform("localhost", "k", timeout=timeout)


def test_a_missing_ca_file_is_named(tmp_path: Path) -> None:
    """A file of authorities that is not there is named."""
    with pytest.raises(ConfigurationError, match=r"no\.pem"):
        MLPlatform("https://host", ca_file=tmp_path / "no.pem")


def test_a_proxy_is_not_asked_for_this_machine() -> None:
    """Proxy settings hold for addresses elsewhere only."""
    assert ("grpc.enable_http_proxy", 0) in options(Endpoint("localhost", 1, tls=False))
    assert ("grpc.enable_http_proxy", 0) not in options(Endpoint("ml.example.com", 1, tls=True))


def test_an_asynchronous_client_belongs_to_one_loop(fake: FakePlatform) -> None:
    """A client used on a second event loop says so, rather than hanging."""
    platform = AsyncMLPlatform(fake.url, "k", retries=0)

    async def use() -> None:
        with pytest.raises(ConfigurationError, match="another event loop"):
            await platform.whoami()

    platform._invoker._transport._loop = asyncio.new_event_loop()
    platform._invoker._transport._loop.close()
    asyncio.run(use())


def test_numbers_of_numpy_are_numbers() -> None:
    """They come out of frames and of arithmetic."""
    given: dict[str, Any] = {"timeout": np.float32(5), "retries": np.int64(2)}
    with MLPlatform("localhost", "k", **given) as platform:
        config = platform._invoker.config
    assert (config.timeout, type(config.timeout), config.retries, type(config.retries)) == (5.0, float, 2, int)
