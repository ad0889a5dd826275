"""Version 13: what turns wait for, and turns that are more than the answer to a new message.

A turn that stopped on its way keeps where (`resumption`) until it is over, and what it asked the person (`pending`,
kinds: 1 approval, 2 question). A turn of one given action has `action` instead of a message, and `parent_id` says below
which message its answer stands. The answer of an `alternative` turn stands beside one that is there already.
An imported answer is stored by the same event as its message: both have its sequence.
"""

from __future__ import annotations

from chassis.migrations import Migration
from context_svc.schema.dialect import both

MIGRATION = Migration(
    version=13,
    name="waiting",
    sql=both("""
ALTER TABLE turn ADD COLUMN parent_id {KEY} NOT NULL DEFAULT '';
ALTER TABLE turn ADD COLUMN alternative INTEGER NOT NULL DEFAULT 0;
ALTER TABLE turn ADD COLUMN action {BYTES};
ALTER TABLE turn ADD COLUMN action_approved INTEGER NOT NULL DEFAULT 0;
ALTER TABLE turn ADD COLUMN resumption {BYTES};
ALTER TABLE turn ADD COLUMN wait_expire_us BIGINT;
CREATE INDEX turn_open_of_session ON turn (session_id, accepted_sequence) WHERE state < 5;
CREATE TABLE pending (
  turn_id {KEY} NOT NULL REFERENCES turn (id) ON DELETE CASCADE,
  id {KEY} NOT NULL,
  attempt INTEGER NOT NULL,
  place INTEGER NOT NULL,
  kind INTEGER NOT NULL,
  digest TEXT NOT NULL,
  form TEXT NOT NULL,
  data {BYTES} NOT NULL,
  answer {BYTES},
  answer_state INTEGER,
  request_id {KEY},
  PRIMARY KEY (turn_id, attempt, id)
);
CREATE INDEX pending_by_request ON pending (turn_id, request_id) WHERE request_id IS NOT NULL;
DROP INDEX message_by_sequence;
CREATE UNIQUE INDEX message_by_sequence ON message (session_id, sequence, role);
"""),
)
