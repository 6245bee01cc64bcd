"""TLS: the server's certificate, read again when its files change. No API key crosses a network in plaintext unasked."""

from __future__ import annotations

import ipaddress
import socket
import ssl
from collections.abc import Callable, Sequence
from pathlib import Path

import grpc
import structlog

from ml_platform_server.settings import ServerSettings
from ml_platform_server.start import StartupError

_log = structlog.get_logger(__name__)


def check(settings: ServerSettings) -> None:
    """Check that the server can listen as configured, without listening.

    Raises:
        StartupError: a file is missing or invalid, the settings contradict each other, or they would offer plaintext at an
            address that other machines reach without saying so.
    """
    certificates = _certificates(settings)
    if certificates is not None:
        certificates.check()


def server_credentials(settings: ServerSettings) -> grpc.ServerCredentials | None:
    """Return the credentials to listen with, or None for plaintext.

    Raises:
        StartupError: see `check`.
    """
    certificates = _certificates(settings)
    return None if certificates is None else certificates.credentials()


def _certificates(settings: ServerSettings) -> _Certificates | None:
    certificate, key, client_ca = settings.tls_certificate, settings.tls_key, settings.tls_client_ca
    if certificate is not None and key is not None:
        return _Certificates(certificate, key, client_ca)
    if certificate or key or client_ca:
        raise StartupError(f"{_variable('TLS_CERTIFICATE')} and {_variable('TLS_KEY')} are needed together.")
    if not settings.allow_plaintext and not _is_loopback(settings.host):
        raise StartupError(
            f"{settings.host} is reached from other machines, and API keys would cross the network in plaintext. "
            f"Set {_variable('TLS_CERTIFICATE')} and {_variable('TLS_KEY')} to PEM files, or {_variable('ALLOW_PLAINTEXT')}=true "
            "where something in front of the server adds TLS."
        )
    return None


class _Certificates:
    """The files that hold the certificate, its key and the authorities for clients' certificates.

    gRPC asks for the configuration at every handshake. The files are read again when one of them has changed, so that a renewed
    certificate needs no restart. Files that do not fit together, as while they are being replaced, leave the one before in use.
    """

    def __init__(self, certificate: Path, key: Path, client_ca: Path | None) -> None:
        self._certificate = certificate
        self._key = key
        self._client_ca = client_ca
        self._version = self._read_version()
        self._failed_version: object = None

    def check(self) -> None:
        """Raise StartupError if the files cannot be used."""
        try:
            self._verify()
        except (OSError, ssl.SSLError) as error:
            raise StartupError(f"The TLS files cannot be used: {_described(error, self._files)}") from None

    def credentials(self) -> grpc.ServerCredentials:
        """Make gRPC's credentials; StartupError if the files cannot be used."""
        self.check()
        # A client's certificate is asked for as soon as there is somebody to vouch for it.
        asks_clients = self._client_ca is not None
        fetch: Callable[[], grpc.ServerCertificateConfiguration] = self._changed  # type: ignore[assignment]  # None: unchanged
        return grpc.dynamic_ssl_server_credentials(self._configuration(), fetch, require_client_authentication=asks_clients)

    @property
    def _files(self) -> Sequence[Path]:
        return [file for file in (self._certificate, self._key, self._client_ca) if file is not None]

    def _changed(self) -> grpc.ServerCertificateConfiguration | None:
        """Return a new configuration if the files have changed. gRPC calls this in a thread of its own, one at a time."""
        version = self._read_version()
        if version in (self._version, self._failed_version):
            return None
        try:
            self._verify()
            configuration = self._configuration()
        except (OSError, ssl.SSLError) as error:
            _log.warning("tls_files_not_reloaded", error=_described(error, self._files))
            self._failed_version = version
            return None
        if version != self._read_version():
            return None  # They changed while they were read: the next handshake reads them again.
        self._version = version
        _log.info("tls_files_reloaded")
        return configuration

    def _verify(self) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        # Compares the two, which gRPC does not. Without the function OpenSSL would ask for a passphrase on the terminal.
        context.load_cert_chain(self._certificate, self._key, password=_refuse_passphrase)
        if self._client_ca is not None:
            context.load_verify_locations(self._client_ca)

    def _configuration(self) -> grpc.ServerCertificateConfiguration:
        authorities = self._client_ca.read_bytes() if self._client_ca else None
        pair = (self._key.read_bytes(), self._certificate.read_bytes())
        return grpc.ssl_server_certificate_configuration([pair], root_certificates=authorities)

    def _read_version(self) -> object:
        """What changes when a file is replaced or written to."""
        try:
            return tuple((status.st_ino, status.st_mtime_ns, status.st_size) for status in map(Path.stat, self._files))
        except OSError:
            return None


def _refuse_passphrase() -> str:
    raise OSError("the key is protected by a passphrase; store it without one, readable to the server alone")


def _is_loopback(host: str) -> bool:
    try:
        found = socket.getaddrinfo(host.strip("[]"), None, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError:
        return True  # Not an address of this machine at all, which taking the port reports.
    return all(ipaddress.ip_address(str(address[0]).partition("%")[0]).is_loopback for *_, address in found)


def _described(error: OSError | ssl.SSLError, files: Sequence[Path]) -> str:
    """Say which file, and what is wrong with it. OpenSSL names neither the file nor what it expected."""
    if isinstance(error, ssl.SSLError):
        names = ", ".join(map(str, files))
        reason = "the certificate does not belong to the key" if error.reason == "KEY_VALUES_MISMATCH" else "no valid PEM"
        return f"{reason} ({names})."
    missing = next((str(file) for file in files if not file.is_file()), ", ".join(map(str, files)))
    return f"{missing}: {error.strerror or error}."


def _variable(name: str) -> str:
    return f"ML_PLATFORM_SERVER__{name}"
