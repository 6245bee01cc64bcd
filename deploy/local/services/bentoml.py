"""BentoML: the models that do not run inside the server."""

from __future__ import annotations

from deploy.local import probes
from deploy.local.config import HOST, ROOT
from deploy.local.layout import Layout, Service, program

SERVICE = ROOT / "deploy" / "bentoml"


def service(layout: Layout) -> Service:
    """Describe it."""
    port = layout.addresses.ports["bentoml"]
    options = {"--working-dir": str(SERVICE), "--host": HOST, "--port": str(port)}
    return Service(
        name="bentoml",
        command=(program("bentoml"), "serve", "service:ModelRunner", *(word for option in options.items() for word in option)),
        probe=lambda: probes.http_ok(port, "/readyz"),
        address=layout.addresses.address("bentoml"),
        folder=layout.state.folder("bentoml"),
        environment=lambda: {**layout.environment(), "BENTOML_HOME": str(layout.state.folder("bentoml"))},
    )
