"""Version 15: backups, and erasures to apply again after a restore. Times are microseconds since 1970.

`erasure` names what was erased and never what it was: ids alone, kept longer than any backup.
"""

from __future__ import annotations

from chassis.migrations import Migration
from context_svc.schema.dialect import both

_TABLES = both("""
CREATE INDEX session_by_update ON session (update_us);
CREATE TABLE erasure (
  kind INTEGER NOT NULL,
  id {KEY} NOT NULL,
  through BIGINT NOT NULL DEFAULT 0,
  create_us BIGINT NOT NULL,
  PRIMARY KEY (kind, id)
);
CREATE INDEX erasure_by_age ON erasure (create_us);
CREATE TABLE backup (
  id {KEY} PRIMARY KEY,
  request_hash {KEY} NOT NULL,
  location TEXT NOT NULL,
  size BIGINT NOT NULL,
  sha256 TEXT NOT NULL,
  version TEXT NOT NULL,
  snapshot_us BIGINT NOT NULL,
  expire_us BIGINT NOT NULL
);
CREATE INDEX backup_by_age ON backup (snapshot_us);
""")

# What is erased, by whatever statement, is remembered: 1 an account, 2 a session, 3 a log up to `through`, 4 a context
# item (scope/key), which is forgotten again when it is set anew.
_NOTE = """INSERT INTO erasure (kind, id, through, create_us) VALUES ({kind}, {id}, {through}, {now})
    ON CONFLICT (kind, id) DO UPDATE SET through = excluded.through, create_us = excluded.create_us"""
_KINDS = (
    ("account_erased", "AFTER DELETE ON account", "", "1", "OLD.id", "0"),
    ("session_erased", "AFTER DELETE ON session", "", "2", "OLD.id", "0"),
    (
        "log_erased",
        "AFTER UPDATE OF first_sequence ON session",
        "WHEN (NEW.first_sequence > OLD.first_sequence)",
        "3",
        "NEW.id",
        "NEW.first_sequence - 1",
    ),
    (
        "item_erased",
        "AFTER UPDATE OF state ON context_item",
        "WHEN (NEW.state > 0 AND OLD.state = 0)",
        "4",
        "NEW.scope_id || '/' || NEW.key",
        "0",
    ),
)
_AGAIN = "DELETE FROM erasure WHERE kind = 4 AND id = NEW.scope_id || '/' || NEW.key"
_SET_AGAIN = ("AFTER UPDATE OF state ON context_item", "WHEN (NEW.state = 0 AND OLD.state > 0)")


def _sqlite() -> str:
    now = "CAST((julianday('now') - 2440587.5) * 86400000000 AS INTEGER)"
    noted = [
        f"CREATE TRIGGER {name} {event} {when} BEGIN "
        f"{_NOTE.format(kind=kind, id=id, through=through, now=now)}; END;"
        for name, event, when, kind, id, through in _KINDS
    ]
    return "\n".join([*noted, f"CREATE TRIGGER item_set_again {' '.join(_SET_AGAIN)} BEGIN {_AGAIN}; END;"])


def _postgres() -> str:
    now = "CAST(extract(epoch FROM clock_timestamp()) * 1000000 AS BIGINT)"
    noted = [
        f"CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        f"{_NOTE.format(kind=kind, id=id, through=through, now=now)}; RETURN NULL; END $$;"
        f" CREATE TRIGGER {name} {event} FOR EACH ROW {when} EXECUTE FUNCTION {name}();"
        for name, event, when, kind, id, through in _KINDS
    ]
    event, when = _SET_AGAIN
    again = (
        f"CREATE FUNCTION item_set_again() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {_AGAIN}; RETURN NULL; END $$;"
        f" CREATE TRIGGER item_set_again {event} FOR EACH ROW {when} EXECUTE FUNCTION item_set_again();"
    )
    return "\n".join([*noted, again])


MIGRATION = Migration(
    version=15,
    name="backups and erasures",
    sql={"sqlite": _TABLES["sqlite"] + _sqlite(), "postgres": _TABLES["postgres"] + _postgres()},
)
