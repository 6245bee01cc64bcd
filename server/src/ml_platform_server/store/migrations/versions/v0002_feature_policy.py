"""What a deployment's predictions do about features that are missing or stale."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add the column. Deployments from before have none, which is the usual policy."""
    op.add_column("deployments", sa.Column("feature_policy", sa.LargeBinary))


def downgrade() -> None:
    """Drop the column."""
    op.drop_column("deployments", "feature_policy")
