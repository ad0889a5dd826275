"""Version 10: accounts that end, and archives that arrive. Times are microseconds.

`erasure` outlives what it erased: it says whose tokens are bad as long as one of them could be unexpired, and what a
restore has to erase again. Import states are the contract's numbers.
"""

from __future__ import annotations

from chassis.migrations import Migration
from context_svc.schema.dialect import both

MIGRATION = Migration(
    version=10,
    name="erasures and imports",
    sql=both("""
CREATE TABLE deletion (
  account_id {KEY} PRIMARY KEY,
  request_id {KEY} NOT NULL,
  create_us BIGINT NOT NULL,
  deadline_us BIGINT NOT NULL,
  forget_us BIGINT NOT NULL,
  end_us BIGINT
);
CREATE INDEX erasure_by_end ON deletion (forget_us);
CREATE TABLE account_export (
  account_id {KEY} NOT NULL REFERENCES account (id) ON DELETE CASCADE,
  request_id {KEY} NOT NULL,
  shape {KEY} NOT NULL,
  create_us BIGINT NOT NULL,
  PRIMARY KEY (account_id, request_id)
);
CREATE TABLE account_import (
  id {KEY} PRIMARY KEY,
  account_id {KEY} NOT NULL REFERENCES account (id) ON DELETE CASCADE,
  request_id {KEY} NOT NULL,
  size BIGINT NOT NULL,
  sha256 {KEY} NOT NULL,
  received BIGINT NOT NULL,
  state INTEGER NOT NULL,
  steps BIGINT NOT NULL DEFAULT 0,
  applied BIGINT NOT NULL DEFAULT 0,
  added TEXT NOT NULL DEFAULT '{{}}',
  present TEXT NOT NULL DEFAULT '{{}}',
  failure TEXT NOT NULL DEFAULT '',
  failure_message TEXT NOT NULL DEFAULT '',
  create_us BIGINT NOT NULL,
  expire_us BIGINT NOT NULL,
  UNIQUE (account_id, request_id)
);
CREATE INDEX account_import_by_end ON account_import (expire_us);
CREATE TABLE import_chunk (
  import_id {KEY} NOT NULL REFERENCES account_import (id) ON DELETE CASCADE,
  position BIGINT NOT NULL,
  data {BYTES} NOT NULL,
  PRIMARY KEY (import_id, position)
);
"""),
)
