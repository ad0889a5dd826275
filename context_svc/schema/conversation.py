"""The conversation's tables: messages, the log, turns, who runs them, and which ids were used before.

Turn states are the numbers of the contract's TurnState: 1 queued, 2 running, 3 waiting, 4 key needed, 5 finished,
6 failed, 7 cancelled. Event kinds are the field numbers of ChatEvent's events.
"""

from __future__ import annotations

from chassis.migrations import Migration
from context_svc.schema.dialect import both

MIGRATION = Migration(
    version=2,
    name="conversation",
    sql=both("""
CREATE TABLE message (
  session_id {KEY} NOT NULL REFERENCES session (id) ON DELETE CASCADE,
  id {KEY} NOT NULL,
  turn_id {KEY} NOT NULL,
  parent_id {KEY} NOT NULL,
  depth BIGINT NOT NULL,
  role INTEGER NOT NULL,
  sequence BIGINT NOT NULL,
  create_us BIGINT NOT NULL,
  data {BYTES} NOT NULL,
  PRIMARY KEY (session_id, id)
);
CREATE UNIQUE INDEX message_by_sequence ON message (session_id, sequence);
CREATE TABLE event (
  session_id {KEY} NOT NULL REFERENCES session (id) ON DELETE CASCADE,
  sequence BIGINT NOT NULL,
  turn_id {KEY} NOT NULL,
  kind INTEGER NOT NULL,
  create_us BIGINT NOT NULL,
  data {BYTES} NOT NULL,
  PRIMARY KEY (session_id, sequence)
);
CREATE TABLE turn (
  id {KEY} PRIMARY KEY,
  session_id {KEY} NOT NULL REFERENCES session (id) ON DELETE CASCADE,
  account_id {KEY} NOT NULL,
  state INTEGER NOT NULL,
  attempt INTEGER NOT NULL DEFAULT 0,
  owner {KEY},
  message_id {KEY} NOT NULL,
  answer_id {KEY} NOT NULL,
  options {BYTES} NOT NULL,
  accepted_sequence BIGINT NOT NULL,
  cancel_request {KEY},
  cancel_device {KEY},
  reason TEXT,
  receipt {BYTES},
  create_us BIGINT NOT NULL,
  start_us BIGINT,
  end_us BIGINT
);
CREATE UNIQUE INDEX turn_running_once ON turn (session_id) WHERE state = 2;
CREATE INDEX turn_open ON turn (state, session_id, accepted_sequence) WHERE state < 5;
CREATE INDEX turn_by_session ON turn (session_id, accepted_sequence);
CREATE INDEX turn_by_answer ON turn (session_id, answer_id);
CREATE TABLE idempotency (
  account_id {KEY} NOT NULL,
  request_id {KEY} NOT NULL,
  session_id {KEY} NOT NULL REFERENCES session (id) ON DELETE CASCADE,
  body_hash {BYTES} NOT NULL,
  turn_id {KEY} NOT NULL,
  PRIMARY KEY (account_id, request_id)
);
CREATE INDEX idempotency_by_session ON idempotency (session_id);
CREATE TABLE owner (
  id {KEY} PRIMARY KEY,
  expire_us BIGINT NOT NULL
);
"""),
)
