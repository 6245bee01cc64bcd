"""Says why a platform cannot be reached, from what gRPC reports about the connection. No input or output happens here."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from ml_platform.config import Endpoint

# In the order in which gRPC looks at them. The names in capitals are not used by gRPC.
_PROXY_VARIABLES = ("grpc_proxy", "https_proxy", "http_proxy")
_MESSAGE_SIZES = re.compile(r"(SERVER|CLIENT)?:? ?(?:Received|Sent) message larger than max \((\d+) vs\. (\d+)\)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Cause:
    """Why a call got no answer, and what can be done about it."""

    message: str
    remedy: str


# What gRPC's text contains, for each cause, most telling first. Endpoint's fields may stand in the texts.
_CAUSES: tuple[tuple[re.Pattern[str], Cause], ...] = tuple(
    (re.compile(pattern, re.IGNORECASE), Cause(message, remedy))
    for pattern, message, remedy in (
        (
            r"hostname lookup error|name resolution|errors resolving|dns resolution failed",
            "The host name {host} cannot be resolved.",
            "Check the spelling of the address, and that this machine's DNS knows the name.",
        ),
        (
            r"proxy returned response code (?P<status>\d+)",
            "The proxy {proxy} refuses to connect to {target}: it answers {status}.",
            "Let the proxy allow the address, or name the host in the variable no_proxy.",
        ),
        (
            r"hostname verification check failed",
            "The certificate of the server at {target} was issued for another name than {host}.",
            "Use the name that the certificate was issued for, or have one issued for {host}.",
        ),
        (
            r"certificate_verify_failed: certificate has expired",
            "The certificate of the server at {target} has expired.",
            "Have the operators renew it, and check this machine's clock.",
        ),
        (
            r"certificate_verify_failed",
            "The certificate of the server at {target} is not trusted here.",
            "Give the authority that issued it: ca_file='ca.pem', or the variable ML_PLATFORM_CA_FILE.",
        ),
        (
            r"wrong_version_number",
            "The server at {target} does not speak TLS.",
            "If it serves plaintext, write http://{target}. Otherwise check the port.",
        ),
        (
            # The fourth letters of "HTTP" and "<!DOCTYPE" stand where a frame has its type.
            r"http1\.x server|got frame type (80|79)\b|http2 header with status: 4\d\d|received http1",
            "The server at {target} speaks HTTP, but not gRPC.",
            "Check the port: the platform's gRPC port is wanted, 50051 by default, not a web page's.",
        ),
        (
            # The fourth letter of "SSH-2.0": gRPC reports no more of what came.
            r"got frame type 45\b",
            "What listens at {target} answers, but speaks no HTTP/2: its first bytes fit 'SSH-', as of an SSH server.",
            "Check the port: the platform's gRPC port is wanted, 50051 by default.",
        ),
        (
            r"failed parsing http/2",
            "What listens at {target} is no gRPC server: it does not speak HTTP/2.",
            "Check the port: the platform's gRPC port is wanted, 50051 by default.",
        ),
        (
            r"http2 header with status: (?P<status>\d+)",
            "Something between here and the platform at {target} answers {status} in its place.",
            "Check that the platform runs behind the load balancer or proxy at this address.",
        ),
        (
            r"before receiving settings frame|settings timeout",
            "Something accepts connections at {target}, but does not answer as a gRPC server.",
            "Check the port, and that the platform is not hung.",
        ),
        (
            r"network is unreachable|no route to host",
            "There is no way through the network to {target}.",
            "Check the network, a VPN for instance, and the address.",
        ),
        (
            r"connection timed out|connect timeout|timeout occurred|fd shutdown",
            "The host {host} does not react to the attempt to connect.",
            "Check the address, and whether a firewall lets this machine through.",
        ),
    )
)
_REFUSED = Cause(
    "Nothing listens at {target}: the connection was refused.",
    "Check that the platform runs (a local stack: make up) and that the host and port are right.",
)
_PROXY_REFUSED = Cause(
    "The proxy {proxy} does not run: the connection to it was refused.",
    "Correct the variable {variable}, or name {host} in the variable no_proxy.",
)
_CLOSED = Cause(
    "The server at {target} closed the connection before it answered. It may expect TLS.",
    "If it does, write https://{target}.",
)
_TLS_CLOSED = Cause(
    "The server at {target} closed the connection after the TLS handshake. It may require a client certificate.",
    "If it does, give cert_file and key_file.",
)
_UNKNOWN = Cause(
    "The platform at {url} does not answer.",
    "Check that it runs and that the address is right; http:// means plaintext and https:// means TLS.",
)


def unreachable(details: str, endpoint: Endpoint, environ: Mapping[str, str] = os.environ) -> Cause:
    """Say why a connection failed.

    Args:
        details: gRPC's description of the failure.
        endpoint: the address that was called.
        environ: where gRPC finds a proxy.
    """
    variable, proxy = _proxy(endpoint, environ)
    facts = {"host": endpoint.host, "target": endpoint.target, "url": endpoint.url, "variable": variable, "proxy": proxy}
    for pattern, cause in _CAUSES:
        if found := pattern.search(details):
            return _filled(cause, {**facts, **found.groupdict()})
    if re.search("connection refused", details, re.IGNORECASE):
        # The address that refused is in the text: the proxy's, if there is one between.
        return _filled(_PROXY_REFUSED if proxy and f":{_port(proxy)}:" in details else _REFUSED, facts)
    if re.search("socket closed|connection reset|eof", details, re.IGNORECASE) and "failed to connect" in details:
        return _filled(_TLS_CLOSED if endpoint.tls else _CLOSED, facts)
    return _filled(_UNKNOWN, facts)


def too_large(details: str) -> Cause | None:
    """Say which message was too large, if that is what gRPC reports."""
    found = _MESSAGE_SIZES.search(details)
    if not found:
        return None
    size, limit = (_size(int(number)) for number in found.group(2, 3))
    if (found[1] or "").upper() == "CLIENT":
        return Cause(
            f"The response has {size}, and this client takes {limit}.", "Ask for less in one call: fewer rows, a smaller limit."
        )
    return Cause(
        f"The request has {size}, and the platform takes {limit}.",
        "Send less in one call: fewer rows, shorter texts; refer to large data by its address.",
    )


def _size(count: int) -> str:
    return f"{count / 1e6:.1f} MB" if count >= 100_000 else f"{count} bytes"  # noqa: PLR2004  # a tenth of a MB


def _filled(cause: Cause, facts: Mapping[str, str]) -> Cause:
    return Cause(cause.message.format(**facts), cause.remedy.format(**facts))


def _proxy(endpoint: Endpoint, environ: Mapping[str, str]) -> tuple[str, str]:
    """The variable that names gRPC's proxy, and the proxy without a password; empty where there is none."""
    if endpoint.loopback:
        return "", ""
    for variable in _PROXY_VARIABLES:
        if environ.get(variable):
            parts = urlsplit(environ[variable])
            return variable, f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
    return "", ""


def _port(proxy: str) -> int:
    return urlsplit(proxy).port or 80
