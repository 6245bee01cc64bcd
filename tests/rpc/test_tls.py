"""TLS: certificates, their renewal, clients' certificates, and addresses that must not be offered in plaintext."""

from __future__ import annotations

from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import pytest
import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from ml_platform import AsyncMLPlatform
from ml_platform.errors import MLPlatformError
from ml_platform_server import scopes
from ml_platform_server.cli.supervising import supervise_until_stopped
from ml_platform_server.settings import ServerSettings, Settings
from ml_platform_server.start import StartupError
from ml_platform_server.store.idempotency import IdempotencyStore
from ml_platform_server.store.keys import ApiKeys
from tests.support.echo import ECHO, Echo, EchoClient, EchoService
from tests.support.frame import opened_database, rpc_server

CA = trustme.CA()


class Files:
    """The PEM files of a server in a folder."""

    def __init__(self, folder: Path):
        self.certificate, self.key, self.ca = folder / "tls.crt", folder / "tls.key", folder / "ca.crt"
        CA.cert_pem.write_to_path(self.ca)
        self.issue(CA)

    def issue(self, authority: trustme.CA, name: str = "localhost") -> bytes:
        """Replace the certificate and its key, and return the certificate."""
        issued = authority.issue_cert(name)
        issued.private_key_pem.write_to_path(self.key)
        chain = b"".join(pem.bytes() for pem in issued.cert_chain_pems)
        self.certificate.write_bytes(chain)
        return chain

    def settings(self, **given) -> ServerSettings:
        return ServerSettings(port=0, tls_certificate=self.certificate, tls_key=self.key, **given)


@pytest.fixture
def files(tmp_path):
    return Files(tmp_path)


@asynccontextmanager
async def served(folder: Path, settings: ServerSettings):
    """A server with these settings that offers the echo; gives its port and a key."""
    async with opened_database(folder) as database:
        keys, calls = ApiKeys(database=database, pepper="a pepper"), IdempotencyStore(database=database)
        server = rpc_server(settings)
        await server.open()
        await server.serve([(ECHO, EchoService())], keys=keys, calls=calls)
        key, _ = await keys.create("somebody", scopes.parse(["all"]))
        try:
            yield server.port, key
        finally:
            await server.stop(grace=0.1)


async def echo(port: int, key: str, credentials: grpc.ChannelCredentials) -> str:
    """The answer to a call on a connection of its own."""
    options = [("grpc.use_local_subchannel_pool", 1)]
    async with grpc.aio.secure_channel(f"localhost:{port}", credentials, options=options) as channel:
        client = EchoClient(channel, metadata=(("authorization", f"Bearer {key}"),))
        (answer,) = await client.call("Unary", Echo(text="a"))
        return answer


def trusting(authority: trustme.CA, **own: bytes) -> grpc.ChannelCredentials:
    """Credentials of a client that trusts an authority."""
    return grpc.ssl_channel_credentials(root_certificates=authority.cert_pem.bytes(), **own)


async def test_calls_are_answered_over_tls(tmp_path, files):
    """A client that trusts the authority is answered; plaintext and strangers to the authority are not."""
    async with served(tmp_path, files.settings()) as (port, key):
        assert await echo(port, key, trusting(CA)) == "a"
        for refused in (trusting(trustme.CA()), grpc.experimental.insecure_channel_credentials()):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await echo(port, key, refused)
            assert caught.value.code() == grpc.StatusCode.UNAVAILABLE


async def test_a_renewed_certificate_is_used_without_a_restart(tmp_path, files):
    """New connections get the certificate that the files hold now."""
    async with served(tmp_path, files.settings()) as (port, key):
        assert await echo(port, key, trusting(CA)) == "a"
        other = trustme.CA()
        files.issue(other)
        assert await echo(port, key, trusting(other)) == "a"
        with pytest.raises(grpc.aio.AioRpcError):
            await echo(port, key, trusting(CA))


async def test_files_that_do_not_fit_leave_the_certificate_before_in_use(tmp_path, files):
    """A certificate whose key is not there yet, and files that are gone, end nothing; what fits is used once it is there."""
    async with served(tmp_path, files.settings()) as (port, key):
        other = trustme.CA()
        before = files.key.read_bytes()
        files.issue(other)
        renewed = files.key.read_bytes()
        files.key.write_bytes(before)
        assert await echo(port, key, trusting(CA)) == "a"
        files.key.unlink()
        assert await echo(port, key, trusting(CA)) == "a"
        files.key.write_bytes(renewed)
        assert await echo(port, key, trusting(other)) == "a"


async def test_clients_certificates_are_asked_for(tmp_path, files):
    """With an authority for clients, only who has a certificate of it is answered: with raw gRPC and with the client."""
    own = CA.issue_cert("client.example")
    cert, own_key = tmp_path / "client.crt", tmp_path / "client.key"
    own.private_key_pem.write_to_path(own_key)
    own.cert_chain_pems[0].write_to_path(cert)
    async with served(tmp_path, files.settings(tls_client_ca=files.ca)) as (port, key):
        assert await echo(port, key, trusting(CA, private_key=own_key.read_bytes(), certificate_chain=cert.read_bytes())) == "a"
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await echo(port, key, trusting(CA))
        assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
        for given, reason in (({"cert_file": cert, "key_file": own_key}, "UNIMPLEMENTED"), ({}, "")):
            async with AsyncMLPlatform(f"https://localhost:{port}", key, ca_file=files.ca, retries=0, **given) as platform:
                with pytest.raises(MLPlatformError) as failed:
                    await platform.whoami()  # The echo's server has no PlatformService: an answer that shows a connection.
            assert failed.value.reason == reason


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        ({"tls_key": None}, "are needed together"),
        ({"tls_certificate": None}, "are needed together"),
        ({"tls_key": Path("no.pem")}, r"no\.pem: No such file"),
        ({"tls_client_ca": Path("no.pem")}, r"no\.pem: No such file"),
    ],
)
async def test_settings_that_cannot_work_end_the_start(files, broken, said):
    """A file too few, or that is not there, is named before anything is served."""
    with pytest.raises(StartupError, match=said):
        await rpc_server(files.settings().model_copy(update=broken)).open()


async def test_files_that_cannot_work_end_the_start(files):
    """A key of another certificate, and a file that is no PEM, are described."""
    before = files.key.read_bytes()
    files.issue(CA)
    files.key.write_bytes(before)
    with pytest.raises(StartupError, match="does not belong to the key"):
        await rpc_server(files.settings()).open()
    files.certificate.write_text("nothing")
    with pytest.raises(StartupError, match="no valid PEM"):
        await rpc_server(files.settings()).open()


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "[::]"])
async def test_plaintext_is_not_offered_to_other_machines(host):
    """An address that others reach needs TLS, or a word that somebody else adds it; one process and several alike."""
    exposed = ServerSettings(host=host, port=0)
    with pytest.raises(StartupError, match="ALLOW_PLAINTEXT"):
        await rpc_server(exposed).open()
    with pytest.raises(StartupError, match="ALLOW_PLAINTEXT"):
        await supervise_until_stopped(Settings(server=exposed.model_copy(update={"workers": 2})))


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "127.0.0.5"])
async def test_this_machines_own_addresses_need_no_tls(host):
    """On loopback the server starts as it is."""
    server = rpc_server(ServerSettings(host=host, port=0))
    await server.open()
    assert server.port > 0
    await server.close()


async def test_a_key_with_a_passphrase_is_refused_and_nobody_is_asked_for_it(files):
    """A server has nobody at a terminal: the error says what is wrong with the key."""
    key = load_pem_private_key(files.key.read_bytes(), None)
    files.key.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret")))
    with pytest.raises(StartupError, match="protected by a passphrase"):
        await rpc_server(files.settings()).open()
