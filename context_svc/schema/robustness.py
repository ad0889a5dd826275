"""Version 15: backups, erasures to apply again after a restore, turns given back. Times are microseconds since 1970.

`erasure` names what was erased and never what it was: ids alone, kept longer than any backup.
"""

from __future__ import annotations

from chassis.migrations import Migration
from context_svc.schema.dialect import both

MIGRATION = Migration(
    version=15,
    name="backups, erasures, turns given back",
    sql=both("""
CREATE INDEX session_by_update ON session (update_us);
CREATE TABLE given_back (
  turn_id {KEY} PRIMARY KEY REFERENCES turn (id) ON DELETE CASCADE,
  resumption {BYTES} NOT NULL
);
CREATE TABLE erasure (
  kind INTEGER NOT NULL,
  id {KEY} NOT NULL,
  through BIGINT NOT NULL DEFAULT 0,
  create_us BIGINT NOT NULL,
  PRIMARY KEY (kind, id)
);
CREATE INDEX erasure_by_age ON erasure (create_us);
CREATE TABLE backup (
  id {KEY} PRIMARY KEY,
  request_hash {KEY} NOT NULL,
  location TEXT NOT NULL,
  size BIGINT NOT NULL,
  sha256 TEXT NOT NULL,
  version TEXT NOT NULL,
  snapshot_us BIGINT NOT NULL,
  expire_us BIGINT NOT NULL
);
CREATE INDEX backup_by_age ON backup (snapshot_us);
"""),
)
