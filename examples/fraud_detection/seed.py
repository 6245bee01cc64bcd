"""Makes the example ready for use: generates its data, registers its features and loads them into the online store.

Run from the project's root as `python -m examples.fraud_detection.seed`, with ML_PLATFORM_STATE and FEAST_FS_YAML_FILE_PATH set.
Running it again brings the data up to today and changes nothing else.
"""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime
from pathlib import Path

from examples.fraud_detection import generate


def main() -> None:
    """Generate, register, materialize."""
    started = time.monotonic()
    now = datetime.now(UTC)
    folder = Path(os.environ["ML_PLATFORM_STATE"]) / "data" / "fraud_detection"
    transactions, user_features = generate.write(folder, now.date())

    from feast import FeatureStore

    from examples.fraud_detection.features import definitions

    store = FeatureStore()
    store.apply(definitions(transactions, user_features))
    first = datetime.combine(generate.FIRST_DAY, datetime.min.time(), tzinfo=UTC)
    store.materialize(start_date=first, end_date=now, feature_views=["user_features"])
    print(f"fraud detection: data up to {now.date()} and features are ready after {time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    main()
