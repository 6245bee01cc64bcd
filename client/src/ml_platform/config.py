"""Where the platform is and who is asking: read once, from arguments first and the environment second."""

from __future__ import annotations

import ipaddress
import math
import numbers
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

from ml_platform.errors import ConfigurationError
from ml_platform.values import is_flag, to_integer

URL_VARIABLE = "ML_PLATFORM_API_URL"
KEY_VARIABLE = "ML_PLATFORM_API_KEY"
CA_VARIABLE = "ML_PLATFORM_CA_FILE"
DEFAULT_PORTS = {"http": 50051, "https": 443}
# What stands before the host and may be a password: everything between the scheme and the last "@".
_PASSWORD = re.compile(r"^([a-z+.-]*://)?.*@", re.IGNORECASE | re.DOTALL)
_ADDRESS_HELP = "Write it as http://host:port (plaintext), https://host:port (TLS) or host:port."


@dataclass(frozen=True, slots=True)
class Endpoint:
    """The address of a platform."""

    host: str
    port: int
    tls: bool

    @property
    def target(self) -> str:
        """The address as gRPC wants it."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def url(self) -> str:
        """The address as people write it."""
        return f"{'https' if self.tls else 'http'}://{self.target}"

    @property
    def loopback(self) -> bool:
        """Whether the address never leaves this machine."""
        return _is_loopback(self.host)


@dataclass(frozen=True, slots=True)
class ClientConfig:
    """What a client needs to know.

    Attributes:
        endpoint: where the platform is.
        api_key: the caller's key; empty sends none.
        timeout: seconds that one call may take, retries included.
        retries: how often a call is tried again when the platform does not answer.
        ca_file: a PEM file with the authorities to trust with TLS; None trusts those gRPC knows.
        cert_file: a PEM file with the client's own certificate, for a platform that asks for one; None has none.
        key_file: a PEM file with that certificate's private key.
    """

    endpoint: Endpoint
    api_key: str = field(default="", repr=False)
    timeout: float = 30.0
    retries: int = 3
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot work."""
        timeout, retries = _number(self.timeout), to_integer(self.retries)
        if timeout is None or not math.isfinite(timeout) or timeout <= 0:
            raise ConfigurationError(f"timeout is {self.timeout!r}.", remedy="Give a number of seconds above zero.")
        if retries is None or retries < 0:
            raise ConfigurationError(f"retries is {self.retries!r}.", remedy="Give 0 or more.")
        object.__setattr__(self, "timeout", timeout)
        object.__setattr__(self, "retries", retries)
        if (self.cert_file is None) != (self.key_file is None):
            raise ConfigurationError("Only one of cert_file and key_file is given.", remedy="Give both, or neither.")


def read_config(
    api_url: str | None,
    api_key: str | None,
    *,
    timeout: float,
    retries: int,
    ca_file: str | Path | None,
    cert_file: str | Path | None,
    key_file: str | Path | None,
) -> ClientConfig:
    """Put together what the arguments say and, where they say nothing, what the environment says."""
    url = _text("api_url", api_url if api_url is not None else os.environ.get(URL_VARIABLE, ""))
    if not url.strip():
        raise ConfigurationError(
            "No address of a platform is given.",
            remedy=f'Give api_url or set {URL_VARIABLE}; for a local stack: eval "$(make -s env)".',
        )
    key = _text("api_key", api_key if api_key is not None else os.environ.get(KEY_VARIABLE, ""))
    return ClientConfig(
        endpoint=parse_endpoint(url.strip()),
        api_key=_checked_key(key.strip()),
        timeout=timeout,
        retries=retries,
        ca_file=_checked_file("ca_file", ca_file or os.environ.get(CA_VARIABLE) or None),
        cert_file=_checked_file("cert_file", cert_file),
        key_file=_checked_file("key_file", key_file),
    )


def parse_endpoint(url: str) -> Endpoint:
    """Read an address.

    `http://` is plaintext and `https://` is TLS. An address without either is plaintext if it is this machine's own, and TLS
    otherwise, so that a key never crosses a network in the clear unless somebody wrote `http://`.
    """
    bare = "://" not in url
    shown = repr(_PASSWORD.sub(r"\1********@", url))
    parts = _split(f"//{url}" if bare else url, shown)
    if not bare and parts.scheme not in DEFAULT_PORTS:
        raise ConfigurationError(f"{shown} begins with {parts.scheme!r}, which is not known here.", remedy=_ADDRESS_HELP)
    host, port = parts.hostname, _port(parts, shown)
    if parts.username is not None:
        raise ConfigurationError(
            f"{shown} holds a user's name or a password, which the platform does not take.",
            remedy=f"Give api_key, or set {KEY_VARIABLE}. {_ADDRESS_HELP}",
        )
    if not host or any(character.isspace() for character in host):
        raise ConfigurationError(f"{shown} is not an address.", remedy=_ADDRESS_HELP)
    if parts.path.strip("/") or parts.query or parts.fragment:
        raise ConfigurationError(f"{shown} holds more than a host and a port.", remedy=_ADDRESS_HELP)
    tls = not _is_loopback(host) if bare else parts.scheme == "https"
    return Endpoint(host=host, port=port or DEFAULT_PORTS["https" if tls and not bare else "http"], tls=tls)


def _split(text: str, shown: str) -> SplitResult:
    try:
        return urlsplit(text)
    except ValueError:
        # Without its cause, which quotes the address.
        raise ConfigurationError(f"{shown} is not an address.", remedy=_ADDRESS_HELP) from None


def _port(parts: SplitResult, shown: str) -> int | None:
    try:
        port = parts.port
    except ValueError:
        raise ConfigurationError(f"{shown} names a port that is no number from 1 to 65535.", remedy=_ADDRESS_HELP) from None
    if port == 0:
        raise ConfigurationError(f"{shown} names port 0.", remedy=_ADDRESS_HELP)
    return port


def _text(name: str, value: object) -> str:
    if not isinstance(value, str):
        raise ConfigurationError(f"{name} is a value of type {type(value).__name__}.", remedy="Give it as text.")
    return value


def _number(value: object) -> float | None:
    """A number of any library as Python's own; None for what is none, True and False included."""
    return float(value) if isinstance(value, numbers.Real) and not is_flag(value) else None


def _is_loopback(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    # 0.0.0.0 is what servers print when they listen everywhere; as a destination it means this machine.
    return address.is_loopback or address.is_unspecified


def _checked_key(key: str) -> str:
    # The text of a bad key stays out of the error: it may be a good key with something pasted after it.
    if not (key.isascii() and all(33 <= ord(character) <= 126 for character in key)):  # noqa: PLR2004  # printable ASCII
        raise ConfigurationError("The API key holds blanks or characters that no key has.", remedy="Copy the key again.")
    return key


def _checked_file(name: str, path: str | Path | None) -> Path | None:
    if path is None:
        return None
    if not isinstance(path, (str, Path)) or not Path(path).is_file():
        raise ConfigurationError(f"{name} {str(path)!r} is not a file.", remedy="Give the path of a PEM file.")
    return Path(path)
