"""Version 3: throttles, consents, API tokens, repeated commands, and the audit log. Times are microseconds.

Nothing may change or remove a row of `audit`: the engine itself refuses it.
"""

from __future__ import annotations

from chassis.migrations import Migration
from context_svc.schema.dialect import both

_TABLES = both("""
CREATE TABLE throttle (
  subject {KEY} PRIMARY KEY,
  moments TEXT NOT NULL,
  expire_us BIGINT NOT NULL
);
CREATE INDEX throttle_by_age ON throttle (expire_us);
ALTER TABLE account ADD COLUMN blocked_us BIGINT;
ALTER TABLE account ADD COLUMN password_us BIGINT NOT NULL DEFAULT 0;
ALTER TABLE device ADD COLUMN last_network TEXT NOT NULL DEFAULT '';
ALTER TABLE device ADD COLUMN forgotten_us BIGINT;
CREATE INDEX account_by_age ON account (create_us, id);
CREATE INDEX device_by_use ON device (account_id, last_use_us, id);
ALTER TABLE registration_code ADD COLUMN email_key TEXT NOT NULL DEFAULT '';
CREATE TABLE device_consent (
  account_id {KEY} NOT NULL,
  device_id {KEY} NOT NULL,
  kind INTEGER NOT NULL,
  granted INTEGER NOT NULL,
  placement INTEGER NOT NULL,
  update_us BIGINT NOT NULL,
  PRIMARY KEY (account_id, device_id, kind),
  FOREIGN KEY (account_id, device_id) REFERENCES device (account_id, id) ON DELETE CASCADE
);
CREATE TABLE command (
  account_id {KEY} NOT NULL REFERENCES account (id) ON DELETE CASCADE,
  request_id {KEY} NOT NULL,
  body_hash {KEY} NOT NULL,
  answer TEXT NOT NULL,
  create_us BIGINT NOT NULL,
  PRIMARY KEY (account_id, request_id)
);
CREATE INDEX command_by_age ON command (create_us);
CREATE TABLE api_token (
  id {KEY} PRIMARY KEY,
  account_id {KEY} NOT NULL REFERENCES account (id) ON DELETE CASCADE,
  request_id {KEY} NOT NULL,
  name TEXT NOT NULL,
  scopes TEXT NOT NULL,
  key_id {KEY} NOT NULL,
  ttl_us BIGINT NOT NULL,
  create_us BIGINT NOT NULL,
  expire_us BIGINT NOT NULL,
  last_use_us BIGINT,
  end_us BIGINT,
  UNIQUE (account_id, request_id)
);
CREATE INDEX api_token_by_age ON api_token (account_id, create_us, id);
CREATE INDEX api_token_ended ON api_token (expire_us) WHERE end_us IS NOT NULL;
CREATE TABLE audit_head (
  id INTEGER PRIMARY KEY,
  sequence BIGINT NOT NULL,
  hash {KEY} NOT NULL
);
INSERT INTO audit_head (id, sequence, hash) VALUES (1, 0, '');
CREATE TABLE audit (
  sequence BIGINT PRIMARY KEY,
  create_us BIGINT NOT NULL,
  event TEXT NOT NULL,
  account_id {KEY} NOT NULL,
  subject {KEY} NOT NULL,
  network TEXT NOT NULL,
  previous {KEY} NOT NULL,
  hash {KEY} NOT NULL
);
""")

_SQLITE = """
CREATE TRIGGER audit_never_changes BEFORE UPDATE ON audit BEGIN SELECT RAISE(ABORT, 'append only'); END;
CREATE TRIGGER audit_never_shrinks BEFORE DELETE ON audit BEGIN SELECT RAISE(ABORT, 'append only'); END;
"""

_POSTGRES = """
CREATE FUNCTION audit_is_append_only() RETURNS trigger LANGUAGE plpgsql AS
  $$ BEGIN RAISE check_violation USING MESSAGE = 'append only'; END $$;
CREATE TRIGGER audit_never_changes BEFORE UPDATE OR DELETE OR TRUNCATE ON audit
  FOR EACH STATEMENT EXECUTE FUNCTION audit_is_append_only();
"""

MIGRATION = Migration(
    version=3,
    name="identity rules",
    sql={
        "sqlite": _TABLES["sqlite"] + _SQLITE,
        "postgres": _TABLES["postgres"] + _POSTGRES,
    },
)
