"""Models as the service runs them."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
from model_runner.models import LoadedModel

from ml_platform_server.backends.mlflow.artifacts import METADATA_FILE, _details


def test_a_model_of_a_frame_without_names_is_served(tmp_path: Path) -> None:
    """Its columns are numbers to MLflow, from 0 on, and texts in the registry's words and in requests."""
    import mlflow
    from sklearn.ensemble import RandomForestClassifier

    table = pd.DataFrame(np.random.default_rng(0).normal(size=(200, 3)))
    model = RandomForestClassifier(5, random_state=0).fit(table, (table[0] > 0).astype(int))
    signature = mlflow.models.infer_signature(table, model.predict(table))
    mlflow.sklearn.save_model(
        model, str(tmp_path / "m"), signature=signature, serialization_format="cloudpickle", pip_requirements=[]
    )
    described = _details(tmp_path / "m" / METADATA_FILE).signature
    assert described is not None
    names = [column.name for column in described.inputs]
    assert names == ["0", "1", "2"]

    loaded = LoadedModel(mlflow.pyfunc.load_model(str(tmp_path / "m")), created=1, folder=TemporaryDirectory())
    answer = loaded.predict({name: table[int(name)].head(20).tolist() for name in names})

    assert answer["outputs"]["prediction"] == model.predict(table.head(20)).tolist()
    assert answer["outputs"]["probability"] == model.predict_proba(table.head(20)).tolist()
