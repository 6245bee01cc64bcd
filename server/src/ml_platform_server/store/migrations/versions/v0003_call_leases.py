"""Which process does the work of a call, and when it last renewed its lease."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Add the columns. What holds a call from before is unknown: its lease counts from its creation."""
    op.add_column("done_calls", sa.Column("owner", sa.String(128), nullable=False, server_default=""))
    op.add_column("done_calls", sa.Column("lease_time", sa.DateTime(timezone=True), nullable=True))


def downgrade() -> None:
    """Drop the columns."""
    op.drop_column("done_calls", "lease_time")
    op.drop_column("done_calls", "owner")
