"""The command line: serve, make and revoke keys, bring the store up to date, show the configuration.

Only what `--help` needs is imported at the top; the rest takes seconds, so each command imports its own.
"""

# ruff: noqa: PLC0415  # see above

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from ml_platform_server.settings import Settings

app = typer.Typer(
    help="The gRPC server of ML Platform.", no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False
)
keys = typer.Typer(help="Make, list and revoke API keys.", no_args_is_help=True)
db = typer.Typer(help="Look after the platform's own database.", no_args_is_help=True)
app.add_typer(keys, name="keys")
app.add_typer(db, name="db")


@app.command()
def serve(
    host: Annotated[str | None, typer.Option(help="Listen here instead of at ML_PLATFORM_SERVER__HOST.")] = None,
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="Instead of ML_PLATFORM_SERVER__PORT; 0 for any.")] = None,
) -> None:
    """Serve until SIGTERM or Ctrl-C; a second Ctrl-C ends at once."""
    settings = _settings()
    given = {name: value for name, value in (("host", host), ("port", port)) if value is not None}
    settings.server = settings.server.model_copy(update=given)
    from ml_platform_server.cli.serving import exit_now, serve_until_stopped

    try:
        _run(settings, serve_until_stopped(settings))
    except typer.Exit as ended:
        exit_now(ended.exit_code)
    exit_now(0)


@keys.command("create")
def create_key(
    principal: Annotated[str, typer.Option(help="Whose key it is: a person or a program.")],
    scope: Annotated[list[str], typer.Option(help="What it allows: 'all', or 'experiments:read' and so on; may be repeated.")],
    expires: Annotated[str, typer.Option(help="After how long it ends: '30d', '12h'. Never, if not given.")] = "",
) -> None:
    """Make a key and print it, alone on a line. It is shown this once."""
    from ml_platform_server.cli.keys import create

    settings = _settings()
    _run(settings, create(settings, principal, scope, expires))


@keys.command("list")
def list_keys() -> None:
    """List the keys, without their secrets."""
    from ml_platform_server.cli.keys import show

    settings = _settings()
    _run(settings, show(settings))


@keys.command("revoke")
def revoke_key(key_id: Annotated[str, typer.Argument(help="The key's public part, between its first two underscores.")]) -> None:
    """End a key for good. Servers notice within half a minute."""
    from ml_platform_server.cli.keys import revoke

    settings = _settings()
    _run(settings, revoke(settings, key_id))


@db.command("upgrade")
def upgrade_database() -> None:
    """Bring the tables up to date. Serving does this too."""
    from ml_platform_server.cli.keys import opened_database

    settings = _settings()

    async def upgrade() -> None:
        async with opened_database(settings):
            typer.echo("The tables are up to date.")

    _run(settings, upgrade())


@app.command()
def config() -> None:
    """Show the configuration as it is in effect, secrets masked."""
    from ml_platform_server.cli.configuration import lines

    for line in lines(_settings()):
        typer.echo(line)


def _settings() -> Settings:
    from ml_platform_server.cli.configuration import SettingsError, read

    try:
        return read()
    except SettingsError as error:
        raise _failed(str(error)) from None


def _run(settings: Settings, work: Coroutine[None, None, None]) -> None:
    """Run a command's work; what the operator can put right ends it with a line and status 1."""
    from ml_platform_server import logs
    from ml_platform_server.errors import PlatformError
    from ml_platform_server.grpc_server import StartError

    logs.configure(settings.log)
    try:
        asyncio.run(work)
    except (StartError, ValueError) as error:
        raise _failed(str(error)) from None
    except PlatformError as error:
        raise _failed(f"{error.message} {error.remedy}") from None
    except asyncio.CancelledError:
        raise typer.Exit(130) from None


def _failed(text: str) -> typer.Exit:
    typer.echo(f"ml-platform-server: {text}", err=True)
    return typer.Exit(1)
