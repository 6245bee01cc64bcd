"""How the client talks gRPC: channel options and credentials, the same for both APIs."""

from __future__ import annotations

import grpc

from ml_platform.config import ClientConfig, Endpoint

# Bytes of a response, and of a request. The server is told: by default clients take 4 MiB.
LARGEST_MESSAGE = 64 * 1024 * 1024
DISTRIBUTION = "ml-platform-sdk"


def options(endpoint: Endpoint) -> list[tuple[str, str | int]]:
    """The channel's options."""
    chosen: list[tuple[str, str | int]] = [
        ("grpc.primary_user_agent", f"{DISTRIBUTION}/{version()}"),
        # A stream is silent between heartbeats; a dead connection must show within a minute or so. Unary calls have deadlines.
        ("grpc.keepalive_time_ms", 60_000),
        ("grpc.keepalive_timeout_ms", 20_000),
        # A server that restarts is back within seconds: do not let gRPC wait for minutes between attempts.
        ("grpc.initial_reconnect_backoff_ms", 200),
        ("grpc.min_reconnect_backoff_ms", 2_000),
        ("grpc.max_reconnect_backoff_ms", 5_000),
        # A page of runs with many parameters and tags may be large.
        ("grpc.max_receive_message_length", LARGEST_MESSAGE),
        ("grpc.max_send_message_length", LARGEST_MESSAGE),
    ]
    if endpoint.loopback:
        # A proxy for the world outside has no business with this machine's own server.
        chosen.append(("grpc.enable_http_proxy", 0))
    return chosen


def credentials(config: ClientConfig) -> grpc.ChannelCredentials | None:
    """TLS credentials, or None for plaintext."""
    if not config.endpoint.tls:
        return None
    return grpc.ssl_channel_credentials(
        root_certificates=config.ca_file.read_bytes() if config.ca_file else None,
        private_key=config.key_file.read_bytes() if config.key_file else None,
        certificate_chain=config.cert_file.read_bytes() if config.cert_file else None,
    )


def version() -> str:
    """The version of the installed distribution; "0" for a source tree that is not installed."""
    from importlib import metadata  # noqa: PLC0415  # takes longer to import than the rest of this client's own modules

    try:
        return metadata.version(DISTRIBUTION)
    except metadata.PackageNotFoundError:
        return "0"
