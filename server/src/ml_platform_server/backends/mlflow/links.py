"""Links to the pages of MLflow's web interface."""

from __future__ import annotations

from urllib.parse import quote

from ml_platform_server.backends.web_address import web_address
from ml_platform_server.settings import MlflowSettings


class Links:
    """Where the web interface shows each thing. Every link is empty where the interface's address is not known.

    Args:
        settings: where the interface is, or where MLflow's server is, which serves it by default.
    """

    def __init__(self, settings: MlflowSettings) -> None:
        self._address = web_address(settings.ui_url or settings.tracking_uri)

    def experiment(self, experiment_id: str) -> str:
        """The page of an experiment."""
        return self._page("experiments", experiment_id)

    def run(self, experiment_id: str, run_id: str) -> str:
        """The page of a run."""
        return self._page("experiments", experiment_id, "runs", run_id)

    def model(self, name: str) -> str:
        """The page of a registered model."""
        return self._page("models", name)

    def version(self, name: str, version: int) -> str:
        """The page of a model version."""
        return self._page("models", name, "versions", str(version))

    def _page(self, *path: str) -> str:
        if not self._address:
            return ""
        return f"{self._address}/#/{'/'.join(quote(part, safe='') for part in path)}"
