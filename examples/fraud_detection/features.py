"""Feast definitions: who the users are, what is known of them, and where the data lie."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

from feast import Entity, FeatureService, FeatureView, Field, FileSource, ValueType
from feast.types import Float64, Int64


def definitions(transactions: Path, user_features: Path) -> list[Any]:
    """All that Feast must know, over the two Parquet files that generate.py writes.

    The transactions are a data source without a view: the training pipeline asks Feast where they are.
    """
    user = Entity(name="user", join_keys=["user_id"], value_type=ValueType.STRING, description="A holder of a card.")
    users = FileSource(name="user_features_source", path=str(user_features.resolve()), timestamp_field="event_timestamp")
    view = FeatureView(
        name="user_features",
        entities=[user],
        ttl=timedelta(days=3650),
        schema=[
            Field(name="total_transactions", dtype=Int64, description="Transactions so far."),
            Field(name="avg_transaction_amount", dtype=Float64, description="Average of all amounts so far, euros."),
            Field(name="std_transaction_amount", dtype=Float64, description="Standard deviation of all amounts so far, euros."),
            Field(name="transactions_30d", dtype=Int64, description="Transactions in the last 30 days."),
            Field(name="max_amount_30d", dtype=Float64, description="Largest amount in the last 30 days, euros; 0 if none."),
            Field(name="international_ratio", dtype=Float64, description="Share of transactions abroad, 0 to 1."),
            Field(name="account_age_days", dtype=Int64, description="Days since the account was opened."),
        ],
        source=users,
        description="What is known of a user, a snapshot a week.",
    )
    return [
        user,
        FileSource(name="transactions", path=str(transactions.resolve()), timestamp_field="event_timestamp"),
        view,
        FeatureService(
            name="fraud_detection_v1", features=[view], description="The features that the fraud model is trained on."
        ),
    ]
