"""The command line: serve, make and revoke keys, bring the store up to date, show the configuration.

Only what `--help` needs is imported at the top; the rest takes seconds, so each command imports its own.
"""

# ruff: noqa: PLC0415  # see above

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

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
    workers: Annotated[int | None, typer.Option(min=1, max=256, help="Processes that share the port; 1 by default.")] = None,
    services: Annotated[
        str | None, typer.Option(help="Offer only these, with commas between them: predictions,features; 'all' by default.")
    ] = None,
) -> None:
    """Serve until SIGTERM or Ctrl-C; a second Ctrl-C ends at once."""
    settings = _settings(host=host, port=port, workers=workers, services=services)
    _schedule(settings)
    from ml_platform_server.cli.signals import exit_now

    try:
        _run(settings, _serving(settings))
    except typer.Exit as ended:
        exit_now(ended.exit_code)
    exit_now(0)


@app.command(hidden=True)
def worker(
    channel: Annotated[int, typer.Option(help="The file descriptor to tell the supervisor through.")],
    metrics_socket: Annotated[Path | None, typer.Option(help="Where to tell the metrics.")] = None,
) -> None:
    """Be one of the processes of `serve --workers`, which starts it."""
    settings = _settings()
    _schedule(settings)
    from ml_platform_server.app import WorkerContext
    from ml_platform_server.cli.serving import serve_until_stopped
    from ml_platform_server.cli.signals import exit_now
    from ml_platform_server.supervisor.lifeline import Lifeline

    lifeline = Lifeline(channel, patience=settings.server.shutdown_grace + 5.0)
    worker_context = WorkerContext(metrics_socket=metrics_socket)

    def on_ready() -> None:
        lifeline.ready()
        lifeline.start_heartbeat()

    try:
        _run(settings, serve_until_stopped(settings, worker_context=worker_context, on_ready=on_ready), tell=lifeline.failed)
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
        async with opened_database(settings, migrate=True):
            typer.echo("The tables are up to date.")

    _run(settings, upgrade())


@app.command()
def config() -> None:
    """Show the configuration as it is in effect, secrets masked."""
    from ml_platform_server.cli.configuration import lines

    for line in lines(_settings()):
        typer.echo(line)


def _serving(settings: Settings) -> Coroutine[None, None, None]:
    """One process serves by itself; several need one that looks after them."""
    if settings.server.workers == 1:
        from ml_platform_server.cli.serving import serve_until_stopped

        return serve_until_stopped(settings)
    from ml_platform_server.cli.supervising import supervise_until_stopped

    return supervise_until_stopped(settings)


def _schedule(settings: Settings) -> None:
    from ml_platform_server.descriptors import raise_limit
    from ml_platform_server.scheduling import take_long_turns

    raise_limit()
    if settings.server.batch_scheduling:
        take_long_turns()


def _settings(**options: object) -> Settings:
    from ml_platform_server.cli.configuration import SettingsError, read, with_options

    try:
        return with_options(read(), options)
    except SettingsError as error:
        raise _failed(str(error)) from None


def _echo(text: str) -> None:
    typer.echo(f"ml-platform-server: {text}", err=True)


def _run(settings: Settings, work: Coroutine[None, None, None], *, tell: Callable[[str], None] = _echo) -> None:
    """Run a command's work; what the operator can put right ends it with a line and status 1."""
    from ml_platform_server import logs
    from ml_platform_server.errors import PlatformError
    from ml_platform_server.event_loop import new_event_loop
    from ml_platform_server.start import StartupError

    logs.configure(settings.log)
    try:
        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            runner.run(work)
    except (StartupError, ValueError) as error:
        raise _failed(str(error), tell) from None
    except PlatformError as error:
        raise _failed(f"{error.message} {error.remedy}", tell) from None
    except asyncio.CancelledError:
        raise typer.Exit(130) from None


def _failed(text: str, tell: Callable[[str], None] = _echo) -> typer.Exit:
    tell(text)
    return typer.Exit(1)
