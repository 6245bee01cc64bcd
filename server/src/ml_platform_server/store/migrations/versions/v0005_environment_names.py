"""Environments by name, where they were the numbers of a closed enumeration."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

_NAMES = {1: "staging", 2: "production"}
_UNIQUE = {"one_in_progress": 1, "one_active": 2}


def upgrade() -> None:
    """Put the names in place of the numbers."""
    op.add_column("deployments", sa.Column("name", sa.String(63), nullable=False, server_default=""))
    for number, name in _NAMES.items():
        op.execute(
            sa.text("UPDATE deployments SET name = :name WHERE environment = :number").bindparams(name=name, number=number)
        )
    _replace_column()


def downgrade() -> None:
    """Put the numbers back. Deployments to further environments have none, and are forgotten."""
    op.execute("DELETE FROM deployments WHERE environment NOT IN ('staging', 'production')")
    op.add_column("deployments", sa.Column("name", sa.Integer, nullable=False, server_default="0"))
    for number, name in _NAMES.items():
        op.execute(
            sa.text("UPDATE deployments SET name = :number WHERE environment = :name").bindparams(name=name, number=number)
        )
    _replace_column()


def _replace_column() -> None:
    for index in _UNIQUE:
        op.drop_index(index, table_name="deployments")
    op.drop_column("deployments", "environment")
    op.execute("ALTER TABLE deployments RENAME COLUMN name TO environment")
    for index, state in _UNIQUE.items():
        where = sa.text(f"state = {state}")
        op.create_index(
            index, "deployments", ["model_name", "environment"], unique=True, sqlite_where=where, postgresql_where=where
        )
