"""Version 5: work for later, and where a session's log begins.

Job states are the numbers of the contract's JobState: 1 scheduled, 2 running, 3 done, 4 failed, 5 cancelled, 6 in
doubt. `rank` orders a person's list: open jobs by the time they run, behind them those that are over, newest first.
A job names its account without a foreign key, because erasing an account is itself a job.
"""

from __future__ import annotations

from chassis.migrations import Migration
from context_svc.schema.dialect import both

MIGRATION = Migration(
    version=5,
    name="jobs",
    sql=both("""
CREATE TABLE job (
  id {KEY} PRIMARY KEY,
  kind {KEY} NOT NULL,
  subject {KEY} NOT NULL,
  account_id {KEY} NOT NULL,
  session_id {KEY} REFERENCES session (id) ON DELETE CASCADE,
  turn_id {KEY} NOT NULL,
  title TEXT NOT NULL,
  payload {BYTES} NOT NULL,
  state INTEGER NOT NULL,
  attempts INTEGER NOT NULL DEFAULT 0,
  failures INTEGER NOT NULL DEFAULT 0,
  owner {KEY},
  run_us BIGINT NOT NULL,
  horizon_us BIGINT NOT NULL DEFAULT 0,
  rank BIGINT NOT NULL,
  reason TEXT NOT NULL DEFAULT '',
  create_us BIGINT NOT NULL,
  end_us BIGINT
);
CREATE UNIQUE INDEX job_open_once ON job (kind, subject) WHERE state < 3;
CREATE INDEX job_due ON job (run_us, id) WHERE state = 1;
CREATE INDEX job_running ON job (owner) WHERE state = 2;
CREATE INDEX job_by_account ON job (account_id, rank, id);
CREATE INDEX job_by_session ON job (session_id) WHERE session_id IS NOT NULL;
ALTER TABLE session ADD COLUMN first_sequence BIGINT NOT NULL DEFAULT 1;
"""),
)
