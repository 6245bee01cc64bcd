"""The first tables."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_Time = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Make the tables."""
    _make_api_keys()
    _make_done_calls()
    _make_jobs()
    _make_deployments()
    generation = op.create_table(
        "generation",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("value", sa.Integer, nullable=False),
    )
    op.bulk_insert(generation, [{"id": 1, "value": 0}])


def downgrade() -> None:
    """Drop the tables."""
    for table in ("generation", "deployments", "jobs", "done_calls", "api_keys"):
        op.drop_table(table)


def _make_api_keys() -> None:
    op.create_table(
        "api_keys",
        sa.Column("key_id", sa.String(32), primary_key=True),
        sa.Column("principal", sa.String(250), nullable=False),
        sa.Column("digest", sa.LargeBinary(32), nullable=False),
        sa.Column("scopes", sa.JSON, nullable=False),
        sa.Column("create_time", _Time, nullable=False),
        sa.Column("expire_time", _Time),
        sa.Column("revoke_time", _Time),
    )
    op.create_index("ix_api_keys_principal", "api_keys", ["principal"])


def _make_done_calls() -> None:
    op.create_table(
        "done_calls",
        sa.Column("principal", sa.String(250), primary_key=True),
        sa.Column("method", sa.String(250), primary_key=True),
        sa.Column("request_id", sa.String(128), primary_key=True),
        sa.Column("fingerprint", sa.LargeBinary(32), nullable=False),
        sa.Column("response", sa.LargeBinary),
        sa.Column("create_time", _Time, nullable=False),
    )
    op.create_index("ix_done_calls_create_time", "done_calls", ["create_time"])


def _make_jobs() -> None:
    op.create_table(
        "jobs",
        sa.Column("job_id", sa.String(250), primary_key=True),
        sa.Column("kind", sa.Integer, nullable=False),
        sa.Column("pipeline", sa.String(250), nullable=False),
        sa.Column("state", sa.Integer, nullable=False),
        sa.Column("experiment_name", sa.String(250), nullable=False),
        sa.Column("conf", sa.JSON, nullable=False),
        sa.Column("submitted_by", sa.String(250), nullable=False),
        sa.Column("message", sa.Text, nullable=False),
        sa.Column("create_time", _Time, nullable=False),
        sa.Column("end_time", _Time),
    )
    op.create_index("ix_jobs_create_time", "jobs", ["create_time", "job_id"])
    op.create_index("ix_jobs_experiment_name", "jobs", ["experiment_name", "create_time"])


def _make_deployments() -> None:
    op.create_table(
        "deployments",
        sa.Column("deployment_id", sa.String(64), primary_key=True),
        sa.Column("model_name", sa.String(250), nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("environment", sa.Integer, nullable=False),
        sa.Column("state", sa.Integer, nullable=False),
        sa.Column("message", sa.Text, nullable=False),
        sa.Column("actor", sa.String(250), nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("job_id", sa.String(250), sa.ForeignKey("jobs.job_id"), nullable=False),
        sa.Column("runtime", sa.Integer, nullable=False),
        sa.Column("alias_mirrored", sa.Boolean, nullable=False),
        sa.Column("previous_deployment_id", sa.String(64), nullable=False),
        sa.Column("create_time", _Time, nullable=False),
        sa.Column("activate_time", _Time),
        sa.Column("end_time", _Time),
    )
    op.create_index("ix_deployments_create_time", "deployments", ["create_time", "deployment_id"])
    _make_unique_while("one_in_progress", "state = 1")
    _make_unique_while("one_active", "state = 2")


def _make_unique_while(name: str, condition: str) -> None:
    where = sa.text(condition)
    columns = ["model_name", "environment"]
    op.create_index(name, "deployments", columns, unique=True, sqlite_where=where, postgresql_where=where)
