"""Version 4: what is known of a person and a session, preferences, and what was learned. Times are microseconds.

Item states: 0 live, 1 deleted, 2 expired; the last two are tombstones without content. Sources, placements, kinds and
suggestion states are the contract's numbers. A scope's id is that of its session, or of its account.
"""

from __future__ import annotations

from chassis.migrations import Migration
from context_svc.schema.dialect import both

MIGRATION = Migration(
    version=4,
    name="context and preferences",
    sql=both("""
CREATE TABLE context_scope (
  id {KEY} PRIMARY KEY,
  account_id {KEY} NOT NULL REFERENCES account (id) ON DELETE CASCADE,
  session_id {KEY} REFERENCES session (id) ON DELETE CASCADE,
  version BIGINT NOT NULL DEFAULT 0,
  forgotten_version BIGINT NOT NULL DEFAULT 0,
  items BIGINT NOT NULL DEFAULT 0,
  bytes BIGINT NOT NULL DEFAULT 0
);
CREATE INDEX context_scope_by_account ON context_scope (account_id);
CREATE INDEX context_scope_by_session ON context_scope (session_id);
CREATE TABLE context_item (
  scope_id {KEY} NOT NULL REFERENCES context_scope (id) ON DELETE CASCADE,
  key {KEY} NOT NULL,
  state INTEGER NOT NULL,
  value TEXT NOT NULL,
  size BIGINT NOT NULL,
  source INTEGER NOT NULL,
  version BIGINT NOT NULL,
  placement INTEGER NOT NULL,
  expire_us BIGINT,
  measure_us BIGINT,
  create_us BIGINT NOT NULL,
  update_us BIGINT NOT NULL,
  turn_id {KEY} NOT NULL,
  device_id {KEY} NOT NULL,
  action TEXT NOT NULL,
  PRIMARY KEY (scope_id, key)
);
CREATE INDEX context_item_by_version ON context_item (scope_id, version);
CREATE INDEX context_item_due ON context_item (expire_us) WHERE expire_us IS NOT NULL;
CREATE INDEX context_item_gone ON context_item (update_us) WHERE state > 0;
CREATE TABLE context_command (
  account_id {KEY} NOT NULL REFERENCES account (id) ON DELETE CASCADE,
  request_id {KEY} NOT NULL,
  scope_id {KEY} REFERENCES context_scope (id) ON DELETE CASCADE,
  body_hash {KEY} NOT NULL,
  version BIGINT NOT NULL,
  answer {BYTES},
  create_us BIGINT NOT NULL,
  PRIMARY KEY (account_id, request_id)
);
CREATE INDEX context_command_by_age ON context_command (create_us);
CREATE INDEX context_command_by_scope ON context_command (scope_id);
CREATE TABLE IF NOT EXISTS device_consent (
  account_id {KEY} NOT NULL,
  device_id {KEY} NOT NULL,
  kind INTEGER NOT NULL,
  granted INTEGER NOT NULL,
  placement INTEGER NOT NULL,
  update_us BIGINT NOT NULL,
  PRIMARY KEY (account_id, device_id, kind),
  FOREIGN KEY (account_id, device_id) REFERENCES device (account_id, id) ON DELETE CASCADE
);
CREATE TABLE preference (
  account_id {KEY} PRIMARY KEY REFERENCES account (id) ON DELETE CASCADE,
  version BIGINT NOT NULL,
  own {BYTES} NOT NULL,
  accepted {BYTES} NOT NULL,
  location_keep_us BIGINT,
  update_us BIGINT NOT NULL
);
CREATE TABLE choice (
  account_id {KEY} NOT NULL REFERENCES account (id) ON DELETE CASCADE,
  field TEXT NOT NULL,
  turn_id {KEY} NOT NULL,
  session_id {KEY} NOT NULL REFERENCES session (id) ON DELETE CASCADE,
  value TEXT NOT NULL,
  create_us BIGINT NOT NULL,
  PRIMARY KEY (account_id, field, turn_id)
);
CREATE INDEX choice_by_age ON choice (account_id, field, create_us, turn_id);
CREATE INDEX choice_by_session ON choice (session_id);
CREATE TABLE suggestion (
  id {KEY} PRIMARY KEY,
  account_id {KEY} NOT NULL REFERENCES account (id) ON DELETE CASCADE,
  field TEXT NOT NULL,
  value TEXT NOT NULL,
  evidence TEXT NOT NULL,
  state INTEGER NOT NULL,
  create_us BIGINT NOT NULL,
  resolve_us BIGINT,
  UNIQUE (account_id, field, value)
);
CREATE INDEX suggestion_by_age ON suggestion (account_id, create_us, id);
"""),
)
