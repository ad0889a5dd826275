"""The tables of media.db. Times are microseconds since 1970."""

from __future__ import annotations

from chassis.migrations import Migration
from media_svc import erased

_FILES = """
CREATE TABLE holder (
  account TEXT PRIMARY KEY,
  touched_us BIGINT NOT NULL
);
CREATE TABLE media (
  id TEXT PRIMARY KEY,
  account TEXT NOT NULL,
  kind TEXT NOT NULL,
  mime_type TEXT NOT NULL,
  file_name TEXT NOT NULL,
  size BIGINT NOT NULL,
  sha256 TEXT NOT NULL,
  upload_sha256 TEXT NOT NULL,
  local_only BIGINT NOT NULL,
  blob_key TEXT NOT NULL UNIQUE,
  create_us BIGINT NOT NULL,
  expire_us BIGINT,
  UNIQUE (account, upload_sha256)
);
CREATE INDEX media_newest ON media (account, create_us, id);
CREATE INDEX media_expiry ON media (expire_us);
CREATE TABLE upload (
  id TEXT PRIMARY KEY,
  account TEXT NOT NULL,
  request_id TEXT NOT NULL,
  size BIGINT NOT NULL,
  sha256 TEXT NOT NULL,
  file_name TEXT NOT NULL,
  mime_type TEXT NOT NULL,
  local_only BIGINT NOT NULL,
  state TEXT NOT NULL,
  received BIGINT NOT NULL,
  media_id TEXT REFERENCES media (id) ON DELETE CASCADE,
  failure TEXT,
  expire_us BIGINT NOT NULL,
  UNIQUE (account, request_id),
  CHECK (received >= 0 AND received <= size)
);
CREATE INDEX upload_expiry ON upload (expire_us);
CREATE INDEX upload_state ON upload (state);
CREATE INDEX upload_media ON upload (media_id);
CREATE TABLE upload_part (
  upload_id TEXT NOT NULL REFERENCES upload (id) ON DELETE CASCADE,
  position BIGINT NOT NULL,
  size BIGINT NOT NULL,
  blob_key TEXT NOT NULL,
  PRIMARY KEY (upload_id, position)
);
CREATE TABLE blob_removal (
  blob_key TEXT PRIMARY KEY,
  due_us BIGINT NOT NULL,
  attempts BIGINT NOT NULL
);
CREATE INDEX blob_removal_due ON blob_removal (due_us);
"""

_ACCOUNTS = """
CREATE TABLE claim (
  account TEXT NOT NULL,
  id TEXT NOT NULL,
  media_id TEXT NOT NULL REFERENCES media (id) ON DELETE CASCADE,
  position BIGINT NOT NULL,
  session_id TEXT NOT NULL,
  excluded BIGINT NOT NULL,
  PRIMARY KEY (account, id, media_id)
);
CREATE INDEX claim_media ON claim (media_id);
CREATE TABLE erased_account (
  account TEXT PRIMARY KEY,
  job_id TEXT NOT NULL,
  create_us BIGINT NOT NULL
);
"""

MIGRATIONS = (
    Migration(version=1, name="files", sql={"all": _FILES}),
    Migration(version=10, name="claims and erased accounts", sql={"all": _ACCOUNTS}),
    erased.MIGRATION,
)
