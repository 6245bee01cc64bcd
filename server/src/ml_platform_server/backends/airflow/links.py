"""Links to the pages of Airflow's web interface."""

from __future__ import annotations

from urllib.parse import quote

from ml_platform_server.backends.web_address import web_address
from ml_platform_server.settings import AirflowSettings


class Links:
    """Where the web interface shows each thing. Every link is empty where the interface's address is not known.

    Args:
        settings: where the interface is, or where Airflow's API is, whose server serves it by default.
    """

    def __init__(self, settings: AirflowSettings) -> None:
        self._address = web_address(settings.ui_url or settings.api_url)

    def run(self, pipeline: str, run_id: str) -> str:
        """The page of a run of a DAG."""
        if not self._address:
            return ""
        return f"{self._address}/dags/{quote(pipeline, safe='')}/runs/{quote(run_id, safe='')}"
