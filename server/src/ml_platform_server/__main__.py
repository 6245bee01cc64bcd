"""`python -m ml_platform_server`."""

from ml_platform_server.cli import app

app(prog_name="ml-platform-server")
