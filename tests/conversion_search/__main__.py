"""Runs the search: `python -m tests.conversion_search --models 1000`. Run again, it goes on where it was.

Every model has a number, and is always the same. It is fitted, kept with MLflow with five rows as its input example, and examined
as a deployment does it. What is accepted answers 5,000 fresh rows and both sides of every split in the platform's server, beside
the library.
Ends with 1 if an accepted model differs.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

HOME = Path(__file__).parents[2]
EXAMPLE_ROWS = 5


def main() -> None:
    """Run the models that have no result yet, and sum up all results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=int, default=1000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=float("inf"), help="stop after so long")
    parser.add_argument("--results", type=Path, default=HOME / "build" / "conversion_search.jsonl")
    parser.add_argument("--pipeline", type=Path, default=HOME / "deploy" / "airflow" / "dags", help="whose version_checks to run")
    given = parser.parse_args()
    sys.path.insert(0, str(given.pipeline))
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    warnings.simplefilter("ignore")
    given.results.parent.mkdir(parents=True, exist_ok=True)
    done = {each["number"] for each in _results(given.results)}
    end = time.monotonic() + given.seconds
    with given.results.open("a") as kept:
        for number in range(given.first, given.first + given.models):
            if number in done or time.monotonic() > end:
                continue
            print(json.dumps(_result(number)), file=kept, flush=True)
    sys.exit(summary(_results(given.results)))


def summary(results: list[dict[str, Any]]) -> int:
    """Print what came of all models; 1 if an accepted one differs."""
    wrong = [each for each in results if each.get("fresh") or each.get("borders") or each.get("special")]
    states = Counter((each["beyond"], each["state"]) for each in results)
    for beyond in (False, True):
        counts = {state: count for (where, state), count in sorted(states.items()) if where == beyond}
        kind = "with a column beyond 24 bits" if beyond else "without"
        print(f"{sum(counts.values())} models {kind}: {counts}")
    rows = sum(each.get("rows", 0) for each in results), sum(each.get("border_rows", 0) for each in results)
    print(f"{len(wrong)} accepted models differ, on {rows[0]} fresh rows and {rows[1]} beside splits")
    for each in wrong:
        print(json.dumps({name: value for name, value in each.items() if name != "message"}))
    return 1 if wrong else 0


def _results(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def _result(number: int) -> dict[str, Any]:
    from tests.conversion_search.candidates import candidate
    from tests.conversion_search.worlds import BEYOND_24_BITS

    started = time.monotonic()
    try:
        made = candidate(number)
    except Exception as error:  # noqa: BLE001  # some models do not take some data
        return {"number": number, "name": "", "state": "not fitted", "beyond": False, "message": repr(error)[:200]}
    beyond = any(kind in BEYOND_24_BITS for kind in made.world.kinds.values())
    about = {"number": number, "name": made.name, "objective": made.objective, "kinds": [*made.world.kinds.values()]}
    with tempfile.TemporaryDirectory() as folder:
        try:
            found = asyncio.run(_judged(made, Path(folder)))
        except Exception:  # noqa: BLE001  # it is counted and shown
            found = {"state": "search failed", "special": {"error": 1}, "message": traceback.format_exc()[-600:]}
    return {**about, "beyond": beyond, **found, "seconds": round(time.monotonic() - started, 2)}


async def _judged(made: Any, folder: Path) -> dict[str, Any]:
    import mlflow
    import onnx
    from version_checks import attempt

    from tests.conversion_search.judging import Served, borders, differing, original
    from tests.conversion_search.special import wrong_specials
    from tests.support.serving import save_onnx

    logging.getLogger("mlflow").setLevel(logging.ERROR)
    options: dict[str, Any] = {"serialization_format": "cloudpickle"} if made.flavor == "sklearn" else {}
    signature = mlflow.models.infer_signature(made.table)
    save = getattr(mlflow, made.flavor).save_model
    save(made.model, str(folder / "version"), signature=signature, pip_requirements=[], **options)
    version = mlflow.pyfunc.load_model(str(folder / "version"))
    outcome, graph = attempt.examine(version, made.table.head(EXAMPLE_ROWS))
    found: dict[str, Any] = {"state": outcome.state, "message": outcome.message}
    if graph is None:
        return found
    assert isinstance(graph, onnx.ModelProto)
    async with Served(save_onnx(folder / "graph", graph), made.table) as served:
        found["rows"] = len(made.fresh)
        found["fresh"] = differing(original(made, made.fresh), await served.answer(made.fresh))
        beside = borders(made)
        if beside is not None:
            found["border_rows"] = len(beside)
            found["borders"] = differing(original(made, beside), await served.answer(beside))
        found["special"] = await wrong_specials(made, served)
    return found


if __name__ == "__main__":
    main()
