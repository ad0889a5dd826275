"""Version 17: reminders, and turns that a job asked for.

Reminder states are the numbers of the contract's ReminderState: 1 scheduled, 2 fired. A reminder outlives the
session it was made in: it then appears in the person's most recent one. Its time is kept by a job of its id.
"""

from __future__ import annotations

from chassis.migrations import Migration
from context_svc.schema.dialect import both

MIGRATION = Migration(
    version=17,
    name="reminders",
    sql=both("""
CREATE TABLE reminder (
  id {KEY} PRIMARY KEY,
  account_id {KEY} NOT NULL REFERENCES account (id) ON DELETE CASCADE,
  request_id {KEY} NOT NULL,
  body_hash TEXT NOT NULL,
  session_id {KEY} REFERENCES session (id) ON DELETE SET NULL,
  turn_id {KEY} NOT NULL,
  text TEXT NOT NULL,
  due_us BIGINT NOT NULL,
  time_zone TEXT NOT NULL,
  state INTEGER NOT NULL DEFAULT 1,
  fire_us BIGINT,
  late INTEGER NOT NULL DEFAULT 0,
  create_us BIGINT NOT NULL
);
CREATE UNIQUE INDEX reminder_by_request ON reminder (account_id, request_id);
CREATE INDEX reminder_by_account ON reminder (account_id, due_us, id);
CREATE INDEX reminder_by_session ON reminder (session_id) WHERE session_id IS NOT NULL;
ALTER TABLE turn ADD COLUMN job_id {KEY} NOT NULL DEFAULT '';
"""),
)
