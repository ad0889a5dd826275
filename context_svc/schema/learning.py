"""Version 12: what an account chose lately is read from its turns, not kept a second time."""

from __future__ import annotations

from chassis.migrations import Migration
from context_svc.schema.dialect import both

MIGRATION = Migration(
    version=12,
    name="learning from turns",
    sql=both("""
DROP TABLE choice;
CREATE INDEX turn_by_account ON turn (account_id, create_us, id);
"""),
)
