"""Version 1: accounts, devices, sign-ins, sessions. Times are microseconds since 1970."""

from __future__ import annotations

from chassis.migrations import Migration
from context_svc.schema.dialect import both

MIGRATION = Migration(
    version=1,
    name="identity and sessions",
    sql=both("""
CREATE TABLE meta (
  key {KEY} PRIMARY KEY,
  value TEXT NOT NULL
);
CREATE TABLE account (
  id {KEY} PRIMARY KEY,
  email TEXT NOT NULL,
  email_key {KEY} NOT NULL UNIQUE,
  display_name TEXT NOT NULL,
  password_hash TEXT NOT NULL,
  version BIGINT NOT NULL,
  session_count BIGINT NOT NULL DEFAULT 0,
  create_us BIGINT NOT NULL,
  update_us BIGINT NOT NULL
);
CREATE TABLE registration_code (
  hash {KEY} PRIMARY KEY,
  kind TEXT NOT NULL,
  create_us BIGINT NOT NULL,
  expire_us BIGINT,
  used_us BIGINT,
  account_id {KEY}
);
CREATE TABLE registration (
  request_id {KEY} PRIMARY KEY,
  account_id {KEY} NOT NULL REFERENCES account (id) ON DELETE CASCADE,
  device_id {KEY} NOT NULL,
  create_us BIGINT NOT NULL
);
CREATE INDEX registration_by_account ON registration (account_id);
CREATE INDEX registration_by_age ON registration (create_us);
CREATE TABLE device (
  account_id {KEY} NOT NULL REFERENCES account (id) ON DELETE CASCADE,
  id {KEY} NOT NULL,
  name TEXT NOT NULL,
  named_by_person INTEGER NOT NULL DEFAULT 0,
  platform INTEGER NOT NULL,
  app_version TEXT NOT NULL,
  secret_hash {KEY},
  earlier_secret_hash {KEY},
  version BIGINT NOT NULL,
  create_us BIGINT NOT NULL,
  last_use_us BIGINT NOT NULL,
  PRIMARY KEY (account_id, id)
);
CREATE TABLE sign_in (
  id {KEY} PRIMARY KEY,
  account_id {KEY} NOT NULL,
  device_id {KEY} NOT NULL,
  create_us BIGINT NOT NULL,
  expire_us BIGINT NOT NULL,
  end_us BIGINT,
  FOREIGN KEY (account_id, device_id) REFERENCES device (account_id, id) ON DELETE CASCADE
);
CREATE UNIQUE INDEX sign_in_open ON sign_in (account_id, device_id) WHERE end_us IS NULL;
CREATE INDEX sign_in_by_device ON sign_in (account_id, device_id);
CREATE INDEX sign_in_ended ON sign_in (end_us) WHERE end_us IS NOT NULL;
CREATE TABLE refresh_token (
  hash {KEY} PRIMARY KEY,
  sign_in_id {KEY} NOT NULL REFERENCES sign_in (id) ON DELETE CASCADE,
  generation BIGINT NOT NULL,
  create_us BIGINT NOT NULL,
  expire_us BIGINT NOT NULL,
  used_us BIGINT,
  UNIQUE (sign_in_id, generation)
);
CREATE TABLE session (
  id {KEY} PRIMARY KEY,
  account_id {KEY} NOT NULL REFERENCES account (id) ON DELETE CASCADE,
  title TEXT NOT NULL,
  title_source INTEGER NOT NULL,
  state INTEGER NOT NULL,
  settings {BYTES} NOT NULL,
  version BIGINT NOT NULL,
  last_sequence BIGINT NOT NULL DEFAULT 0,
  head_message_id {KEY},
  preview TEXT NOT NULL DEFAULT '',
  create_us BIGINT NOT NULL,
  update_us BIGINT NOT NULL,
  end_us BIGINT,
  device_id {KEY} NOT NULL,
  sealed INTEGER NOT NULL DEFAULT 0,
  shape TEXT NOT NULL
);
CREATE INDEX session_by_activity ON session (account_id, update_us, id);
CREATE INDEX session_open_by_activity ON session (account_id, update_us, id) WHERE end_us IS NULL;
CREATE TABLE acknowledgement (
  session_id {KEY} NOT NULL REFERENCES session (id) ON DELETE CASCADE,
  device_id {KEY} NOT NULL,
  sequence BIGINT NOT NULL,
  PRIMARY KEY (session_id, device_id)
);
"""),
)
