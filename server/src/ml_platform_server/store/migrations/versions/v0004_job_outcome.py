"""How a job ended, in full, so that it can be returned while the pipeline engine is away."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Add the column. Jobs that ended before have none until they are polled again."""
    op.add_column("jobs", sa.Column("outcome", sa.LargeBinary))


def downgrade() -> None:
    """Drop the column."""
    op.drop_column("jobs", "outcome")
