"""BentoML, a row a call: `bentoml serve bentoml_service:Fraud`, in BentoML's environment, FRAUD_MODEL set."""

from __future__ import annotations

from typing import Any

import bentoml
import fraud_model
import numpy as np


@bentoml.service(workers=1, logging={"access": {"enabled": False}})
class Fraud:
    """The model."""

    def __init__(self) -> None:
        self.model = fraud_model.load()

    @bentoml.api  # type: ignore[untyped-decorator]
    def predict(self, row: dict[str, Any]) -> dict[str, float]:
        """Answer one request."""
        said = self.model.ask({name: np.array([value]) for name, value in row.items()})
        return {"probability": float(said[0, 1])}
