"""Version 14: what turns leave behind: money, receipts of jobs, an index of words, summaries. Amounts are micro-USD.

`message_search` names the messages that can be found. Their words stand in it (PostgreSQL) or in `message_index`
(SQLite) as digests under their account's key alone, so that no index holds text. Rows go with their messages; a
trigger may not write to a virtual table, so what `message_index` still has of them is named in
`message_search_gone` until the index is cleaned.
A summary goes with the first and with the last message it was made from, and with the summary it goes on from.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from chassis.database import Engine
from chassis.migrations import Migration
from context_svc.schema.dialect import both

_BOTH = both("""
CREATE TABLE ledger (
  account_id {KEY} NOT NULL REFERENCES account (id) ON DELETE CASCADE,
  day BIGINT NOT NULL,
  turns BIGINT NOT NULL DEFAULT 0,
  input_tokens BIGINT NOT NULL DEFAULT 0,
  output_tokens BIGINT NOT NULL DEFAULT 0,
  cost BIGINT NOT NULL DEFAULT 0,
  reserved BIGINT NOT NULL DEFAULT 0,
  PRIMARY KEY (account_id, day)
);
CREATE TABLE reservation (
  run_id {KEY} PRIMARY KEY,
  account_id {KEY} NOT NULL REFERENCES account (id) ON DELETE CASCADE,
  day BIGINT NOT NULL,
  amount BIGINT NOT NULL,
  input_tokens BIGINT NOT NULL DEFAULT 0,
  output_tokens BIGINT NOT NULL DEFAULT 0,
  cost BIGINT NOT NULL DEFAULT 0,
  create_us BIGINT NOT NULL
);
CREATE INDEX reservation_by_account ON reservation (account_id);
CREATE TABLE job_receipt (
  job_id {KEY} PRIMARY KEY,
  session_id {KEY} NOT NULL REFERENCES session (id) ON DELETE CASCADE,
  account_id {KEY} NOT NULL,
  state INTEGER NOT NULL,
  receipt {BYTES} NOT NULL,
  create_us BIGINT NOT NULL,
  start_us BIGINT NOT NULL,
  end_us BIGINT NOT NULL
);
CREATE INDEX job_receipt_by_session ON job_receipt (session_id);
CREATE TABLE search_key (
  account_id {KEY} PRIMARY KEY REFERENCES account (id) ON DELETE CASCADE,
  key {BYTES} NOT NULL
);
CREATE TABLE summary (
  id {KEY} PRIMARY KEY,
  session_id {KEY} NOT NULL REFERENCES session (id) ON DELETE CASCADE,
  base_id {KEY} REFERENCES summary (id) ON DELETE CASCADE,
  first_message_id {KEY} NOT NULL,
  through_message_id {KEY} NOT NULL,
  through_depth BIGINT NOT NULL,
  messages BIGINT NOT NULL,
  sources TEXT NOT NULL,
  local_only INTEGER NOT NULL,
  text TEXT NOT NULL,
  create_us BIGINT NOT NULL,
  FOREIGN KEY (session_id, first_message_id) REFERENCES message (session_id, id) ON DELETE CASCADE,
  FOREIGN KEY (session_id, through_message_id) REFERENCES message (session_id, id) ON DELETE CASCADE
);
CREATE INDEX summary_by_first ON summary (session_id, first_message_id);
CREATE INDEX summary_by_through ON summary (session_id, through_message_id);
CREATE INDEX summary_by_depth ON summary (session_id, through_depth);
CREATE INDEX summary_by_base ON summary (base_id) WHERE base_id IS NOT NULL;
ALTER TABLE session ADD COLUMN private INTEGER NOT NULL DEFAULT 0;
CREATE INDEX session_private ON session (update_us) WHERE private = 1;
""")
_SQLITE = """
CREATE TABLE message_search (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  session_id TEXT NOT NULL,
  message_id TEXT NOT NULL,
  UNIQUE (session_id, message_id),
  FOREIGN KEY (session_id, message_id) REFERENCES message (session_id, id) ON DELETE CASCADE
);
CREATE VIRTUAL TABLE message_index USING fts5(words, tokenize = 'ascii');
CREATE TABLE message_search_gone (id INTEGER PRIMARY KEY);
CREATE TRIGGER message_search_leaves AFTER DELETE ON message_search BEGIN
  INSERT INTO message_search_gone (id) VALUES (old.id);
END;
"""
_POSTGRES = """
CREATE TABLE message_search (
  id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  session_id TEXT COLLATE "C" NOT NULL,
  message_id TEXT COLLATE "C" NOT NULL,
  words TSVECTOR NOT NULL,
  UNIQUE (session_id, message_id),
  FOREIGN KEY (session_id, message_id) REFERENCES message (session_id, id) ON DELETE CASCADE
);
CREATE INDEX message_search_words ON message_search USING gin (words);
"""
_OLDER = """
INSERT INTO meta (key, value) VALUES ('search.indexed_through', '["",""]');
"""
_SQL: Mapping[Engine | Literal["all"], str] = {
    "sqlite": _BOTH["sqlite"] + _SQLITE + _OLDER,
    "postgres": _BOTH["postgres"] + _POSTGRES + _OLDER,
}

MIGRATION = Migration(version=14, name="what turns leave behind", sql=_SQL)
