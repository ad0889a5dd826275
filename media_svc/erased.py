"""Version 15 of media.db: which files were deleted, so that a restore does not bring them back."""

from __future__ import annotations

from chassis.migrations import Migration

_TABLE = """
CREATE TABLE erased_media (
  id TEXT PRIMARY KEY,
  erase_us BIGINT NOT NULL
);
CREATE INDEX erased_media_by_age ON erased_media (erase_us);
"""
_NOTE = """INSERT INTO erased_media (id, erase_us) VALUES (OLD.id, {now})
  ON CONFLICT (id) DO UPDATE SET erase_us = excluded.erase_us"""
_SQLITE = f"""
CREATE TRIGGER media_erased AFTER DELETE ON media BEGIN
  {_NOTE.format(now="CAST((julianday('now') - 2440587.5) * 86400000000 AS INTEGER)")}; END;
"""
_POSTGRES = f"""
CREATE FUNCTION media_erased() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
  {_NOTE.format(now="CAST(extract(epoch FROM clock_timestamp()) * 1000000 AS BIGINT)")}; RETURN NULL; END $$;
CREATE TRIGGER media_erased AFTER DELETE ON media FOR EACH ROW EXECUTE FUNCTION media_erased();
"""

MIGRATION = Migration(
    version=15, name="erased files", sql={"sqlite": _TABLE + _SQLITE, "postgres": _TABLE + _POSTGRES}
)
