"""The tables. A change here needs a migration in store/migrations."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import JSON, DateTime, ForeignKey, Index, Integer, LargeBinary, String, Text, text
from sqlalchemy.engine import Dialect
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.types import TypeDecorator


class Base(DeclarativeBase):
    """The metadata that the migrations are checked against."""


class UtcDateTime(TypeDecorator[datetime]):
    """A point in time, aware and in UTC on both sides; SQLite alone would drop the zone."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002  # SQLAlchemy's signature
        """Refuse a time without a zone; store the rest as UTC."""
        if value is not None and value.tzinfo is None:
            raise ValueError("a time without a zone")
        return value.astimezone(UTC) if value else None

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        """Give the zone back."""
        return value.replace(tzinfo=UTC) if value and value.tzinfo is None else value


class Message(TypeDecorator[str]):
    """A text that may quote a backend. PostgreSQL refuses NUL characters, which logs and exceptions may hold."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:  # noqa: ARG002  # SQLAlchemy's signature
        """Replace NUL characters."""
        return value.replace("\0", "\N{REPLACEMENT CHARACTER}") if value else value


class ApiKeyRow(Base):
    """One API key; the secret itself is never stored."""

    __tablename__ = "api_keys"

    key_id: Mapped[str] = mapped_column(String(32), primary_key=True)
    principal: Mapped[str] = mapped_column(String(250), index=True)
    digest: Mapped[bytes] = mapped_column(LargeBinary(32))
    scopes: Mapped[list[int]] = mapped_column(JSON)
    create_time: Mapped[datetime] = mapped_column(UtcDateTime)
    expire_time: Mapped[datetime | None] = mapped_column(UtcDateTime)
    revoke_time: Mapped[datetime | None] = mapped_column(UtcDateTime)


class DoneCallRow(Base):
    """The first answer to a mutating call, kept for its repeats. No response yet means that its owner still works on it.

    The owner is a process (store/owners.py). It renews its lease while it works; `lease_time` is when it did so last.
    """

    __tablename__ = "done_calls"

    principal: Mapped[str] = mapped_column(String(250), primary_key=True)
    method: Mapped[str] = mapped_column(String(250), primary_key=True)
    request_id: Mapped[str] = mapped_column(String(128), primary_key=True)
    fingerprint: Mapped[bytes] = mapped_column(LargeBinary(32))
    response: Mapped[bytes | None] = mapped_column(LargeBinary)
    create_time: Mapped[datetime] = mapped_column(UtcDateTime, index=True)
    owner: Mapped[str] = mapped_column(String(128), default="", server_default="")
    lease_time: Mapped[datetime | None] = mapped_column(UtcDateTime)


class JobRow(Base):
    """One job that was submitted through the platform. The state is a copy, refreshed at every poll.

    `outcome` is the Job message of a job that has ended, without its parameters.
    """

    __tablename__ = "jobs"

    job_id: Mapped[str] = mapped_column(String(250), primary_key=True)
    kind: Mapped[int] = mapped_column(Integer)
    pipeline: Mapped[str] = mapped_column(String(250))
    state: Mapped[int] = mapped_column(Integer)
    experiment_name: Mapped[str] = mapped_column(String(250), default="")
    conf: Mapped[dict[str, Any]] = mapped_column(JSON)
    submitted_by: Mapped[str] = mapped_column(String(250))
    message: Mapped[str] = mapped_column(Message, default="")
    outcome: Mapped[bytes | None] = mapped_column(LargeBinary)
    create_time: Mapped[datetime] = mapped_column(UtcDateTime)
    end_time: Mapped[datetime | None] = mapped_column(UtcDateTime)

    __table_args__ = (
        Index("ix_jobs_create_time", "create_time", "job_id"),
        Index("ix_jobs_experiment_name", "experiment_name", "create_time"),
    )


class DeploymentRow(Base):
    """One deployment. At most one is in progress, and at most one active, for a model in an environment."""

    __tablename__ = "deployments"

    deployment_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    model_name: Mapped[str] = mapped_column(String(250))
    version: Mapped[int] = mapped_column(Integer)
    environment: Mapped[str] = mapped_column(String(63), server_default="")
    state: Mapped[int] = mapped_column(Integer)
    message: Mapped[str] = mapped_column(Message, default="")
    actor: Mapped[str] = mapped_column(String(250))
    reason: Mapped[str] = mapped_column(Text, default="")
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.job_id"))
    runtime: Mapped[int] = mapped_column(Integer, default=0)
    alias_mirrored: Mapped[bool] = mapped_column(default=False)
    previous_deployment_id: Mapped[str] = mapped_column(String(64), default="")
    # A FeaturePolicy of the contract; store/policies.py reads it.
    feature_policy: Mapped[bytes | None] = mapped_column(LargeBinary)
    create_time: Mapped[datetime] = mapped_column(UtcDateTime)
    activate_time: Mapped[datetime | None] = mapped_column(UtcDateTime)
    end_time: Mapped[datetime | None] = mapped_column(UtcDateTime)

    __table_args__ = (
        Index("ix_deployments_create_time", "create_time", "deployment_id"),
        # The states are DeploymentState's numbers: 1 in progress, 2 active.
        Index(
            "one_in_progress",
            "model_name",
            "environment",
            unique=True,
            sqlite_where=text("state = 1"),
            postgresql_where=text("state = 1"),
        ),
        Index(
            "one_active",
            "model_name",
            "environment",
            unique=True,
            sqlite_where=text("state = 2"),
            postgresql_where=text("state = 2"),
        ),
    )


class GenerationRow(Base):
    """One row that counts changes of the active deployments, so that every process notices them cheaply."""

    __tablename__ = "generation"

    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    value: Mapped[int] = mapped_column(Integer, default=0)
