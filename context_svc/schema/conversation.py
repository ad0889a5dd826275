"""The conversation's tables: messages, the log, turns, who runs them, and which ids were used before.

Turn states are the numbers of the contract's TurnState: 1 queued, 2 running, 3 waiting, 4 key needed, 5 finished,
6 failed, 7 cancelled. Event kinds are the field numbers of ChatEvent's events.
"""

from __future__ import annotations

from chassis.migrations import Migration

_SQL = """
CREATE TABLE message (
  session_id TEXT NOT NULL REFERENCES session (id) ON DELETE CASCADE,
  id TEXT NOT NULL,
  turn_id TEXT NOT NULL,
  parent_id TEXT NOT NULL,
  depth BIGINT NOT NULL,
  role INTEGER NOT NULL,
  sequence BIGINT NOT NULL,
  create_us BIGINT NOT NULL,
  data BYTEA NOT NULL,
  PRIMARY KEY (session_id, id)
);
CREATE UNIQUE INDEX message_by_sequence ON message (session_id, sequence);
CREATE TABLE event (
  session_id TEXT NOT NULL REFERENCES session (id) ON DELETE CASCADE,
  sequence BIGINT NOT NULL,
  turn_id TEXT NOT NULL,
  kind INTEGER NOT NULL,
  create_us BIGINT NOT NULL,
  data BYTEA NOT NULL,
  PRIMARY KEY (session_id, sequence)
);
CREATE TABLE turn (
  id TEXT PRIMARY KEY,
  session_id TEXT NOT NULL REFERENCES session (id) ON DELETE CASCADE,
  account_id TEXT NOT NULL,
  state INTEGER NOT NULL,
  attempt INTEGER NOT NULL DEFAULT 0,
  owner TEXT,
  message_id TEXT NOT NULL,
  answer_id TEXT NOT NULL,
  options BYTEA NOT NULL,
  accepted_sequence BIGINT NOT NULL,
  cancel_request TEXT,
  cancel_device TEXT,
  reason TEXT,
  receipt BYTEA,
  create_us BIGINT NOT NULL,
  start_us BIGINT,
  end_us BIGINT
);
CREATE UNIQUE INDEX turn_running_once ON turn (session_id) WHERE state = 2;
CREATE INDEX turn_open ON turn (state, session_id, accepted_sequence) WHERE state < 5;
CREATE INDEX turn_by_session ON turn (session_id, accepted_sequence);
CREATE TABLE idempotency (
  account_id TEXT NOT NULL,
  request_id TEXT NOT NULL,
  session_id TEXT NOT NULL REFERENCES session (id) ON DELETE CASCADE,
  body_hash BYTEA NOT NULL,
  turn_id TEXT NOT NULL,
  PRIMARY KEY (account_id, request_id)
);
CREATE INDEX idempotency_by_session ON idempotency (session_id);
CREATE TABLE owner (
  id TEXT PRIMARY KEY,
  expire_us BIGINT NOT NULL
)
"""

CONVERSATION = Migration(version=2, name="conversation", sql={"all": _SQL})
