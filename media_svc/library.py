"""The files that are kept: their rows, whose they are, and how long they stay."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from chassis.database import Row, Statement, Unit
from chassis.errors import TokenRevoked
from media_svc.blobs import kept_key
from media_svc.errors import MediaNotFound, PageTokenInvalid
from media_svc.kinds import Found, Kind
from media_svc.outbox import schedule

UNCLAIMED_US = round(timedelta(hours=24).total_seconds() * 1e6)
_DEFAULT_PAGE = 50


@dataclass(frozen=True, kw_only=True, slots=True)
class Media:
    """A kept file. Times are microseconds since 1970; `expire_us` is None once something names the file."""

    id: str
    account: str
    found: Found
    file_name: str
    size: int
    sha256: str
    upload_sha256: str
    local_only: bool
    blob_key: str
    create_us: int
    expire_us: int | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Page:
    """Some of a person's files, newest first. `next` is empty after the last."""

    media: Sequence[Media]
    next: str
    used_bytes: int


def lock(account: str, now_us: int) -> Unit[None]:
    """Hold the person's row until the end of the transaction: what is read after it stays true.

    Raises TokenRevoked once the account is being erased: nothing may be added to it then.
    """
    yield from hold(account, now_us)
    erased = yield Statement(
        "SELECT 1 AS one FROM erased_account WHERE account = :account", {"account": account}
    )
    if erased:
        raise TokenRevoked("the account is erased")


def hold(account: str, now_us: int) -> Unit[None]:
    """Hold the person's row, also of an account that is being erased."""
    yield Statement(
        "INSERT INTO holder (account, touched_us) VALUES (:account, :now)"
        " ON CONFLICT (account) DO UPDATE SET touched_us = excluded.touched_us",
        {"account": account, "now": now_us},
    )


def find(account: str, media_id: str, now_us: int) -> Unit[Media]:
    """One file of this person. Raises MediaNotFound."""
    rows = yield Statement(
        "SELECT * FROM media WHERE id = :id AND account = :account"
        " AND (expire_us IS NULL OR expire_us > :now)",
        {"id": media_id, "account": account, "now": now_us},
    )
    if not rows:
        raise MediaNotFound
    return from_row(rows[0])


def find_named(account: str, media_id: str, now_us: int) -> Unit[Media]:
    """The same for one of several. Raises MediaNotFound with metadata `media_id`."""
    try:
        return (yield from find(account, media_id, now_us))
    except MediaNotFound:
        raise MediaNotFound(metadata={"media_id": media_id}) from None


def seen_again(account: str, upload_sha256: str, *, local_only: bool, now_us: int) -> Unit[Media | None]:
    """The file these bytes are already kept as, if they are. Its 24 h begin anew; the stricter mark holds."""
    rows = yield Statement(
        "UPDATE media SET local_only = CASE WHEN CAST(:local AS BIGINT) = 1 THEN 1 ELSE local_only END,"
        " expire_us = CASE WHEN expire_us IS NULL THEN expire_us ELSE CAST(:expire AS BIGINT) END"
        " WHERE account = :account AND upload_sha256 = :sha256 RETURNING *",
        {
            "local": int(local_only),
            "expire": now_us + UNCLAIMED_US,
            "account": account,
            "sha256": upload_sha256,
        },
    )
    return from_row(rows[0]) if rows else None


def add(media: Media) -> Unit[None]:
    """Keep a file."""
    yield Statement(
        "INSERT INTO media (id, account, kind, mime_type, file_name, size, sha256, upload_sha256, local_only,"
        " blob_key, create_us, expire_us) VALUES (:id, :account, :kind, :mime_type, :file_name, :size,"
        " :sha256, :upload_sha256, :local_only, :blob_key, :create_us, :expire_us)",
        {
            "id": media.id,
            "account": media.account,
            "kind": media.found.kind.value,
            "mime_type": media.found.mime_type,
            "file_name": media.file_name,
            "size": media.size,
            "sha256": media.sha256,
            "upload_sha256": media.upload_sha256,
            "local_only": int(media.local_only),
            "blob_key": media.blob_key,
            "create_us": media.create_us,
            "expire_us": media.expire_us,
        },
    )


def delete(account: str, media_id: str, *, allow_missing: bool, now_us: int) -> Unit[None]:
    """Forget a file; its bytes go by the outbox. Raises MediaNotFound unless `allow_missing`."""
    yield from lock(account, now_us)
    rows = yield Statement(
        "DELETE FROM media WHERE id = :id AND account = :account RETURNING blob_key",
        {"id": media_id, "account": account},
    )
    if not rows and not allow_missing:
        raise MediaNotFound
    for row in rows:
        yield from schedule(row["blob_key"], now_us)


def expire(now_us: int) -> Unit[int]:
    """Forget up to 100 files that nothing named in time; how many."""
    rows = yield Statement(
        "DELETE FROM media WHERE id IN"
        " (SELECT id FROM media WHERE expire_us <= :now ORDER BY expire_us LIMIT 100)"
        " AND expire_us <= :now RETURNING blob_key",
        {"now": now_us},
    )
    for row in rows:
        yield from schedule(row["blob_key"], now_us)
    return len(rows)


def used(account: str) -> Unit[int]:
    """Bytes that the person's files take."""
    rows = yield Statement(
        "SELECT CAST(COALESCE(SUM(size), 0) AS BIGINT) AS bytes FROM media WHERE account = :account",
        {"account": account},
    )
    total: int = rows[0]["bytes"]
    return total


def page(account: str, *, kind: Kind | None, size: int, token: str, now_us: int) -> Unit[Page]:
    """A page of the person's files. Raises PageTokenInvalid."""
    before_us, before_id = _position(account, kind, token)
    limit = size or _DEFAULT_PAGE
    rows = yield Statement(
        "SELECT * FROM media WHERE account = :account AND (expire_us IS NULL OR expire_us > :now)"
        " AND (CAST(:kind AS TEXT) = '' OR kind = CAST(:kind AS TEXT))"
        " AND (create_us < :before_us OR (create_us = :before_us AND id < :before_id))"
        " ORDER BY create_us DESC, id DESC LIMIT :limit",
        {
            "account": account,
            "now": now_us,
            "kind": kind.value if kind else "",
            "before_us": before_us,
            "before_id": before_id,
            "limit": limit + 1,
        },
    )
    media = [from_row(row) for row in rows[:limit]]
    following = _token(account, kind, media[-1]) if len(rows) > limit else ""
    return Page(media=media, next=following, used_bytes=(yield from used(account)))


def fresh(
    media_id: str,
    account: str,
    found: Found,
    *,
    name: str,
    size: int,
    sha256: str,
    local_only: bool,
    now_us: int,
) -> Media:
    """A file just checked, to be kept byte for byte."""
    return Media(
        id=media_id,
        account=account,
        found=found,
        file_name=name,
        size=size,
        sha256=sha256,
        upload_sha256=sha256,
        local_only=local_only,
        blob_key=kept_key(account, sha256, media_id),
        create_us=now_us,
        expire_us=now_us + UNCLAIMED_US,
    )


def from_row(row: Row) -> Media:
    """A row of ``SELECT *`` or ``RETURNING *``."""
    return Media(
        id=row["id"],
        account=row["account"],
        found=Found(kind=Kind(row["kind"]), mime_type=row["mime_type"]),
        file_name=row["file_name"],
        size=row["size"],
        sha256=row["sha256"],
        upload_sha256=row["upload_sha256"],
        local_only=bool(row["local_only"]),
        blob_key=row["blob_key"],
        create_us=row["create_us"],
        expire_us=row["expire_us"],
    )


def _query(account: str, kind: Kind | None) -> str:
    about = f"{account}\n{kind.value if kind else ''}"
    return hashlib.sha256(about.encode()).hexdigest()[:16]


def _token(account: str, kind: Kind | None, last: Media) -> str:
    body = json.dumps([_query(account, kind), last.create_us, last.id], separators=(",", ":"))
    return base64.urlsafe_b64encode(body.encode()).rstrip(b"=").decode()


def _position(account: str, kind: Kind | None, token: str) -> tuple[int, str]:
    """Where the page begins. A forged token chooses among the caller's own files only: no signature."""
    if not token:
        return 2**62, ""
    try:
        text = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
        match json.loads(text):
            case [str(query), int(create_us), str(media_id)] if query == _query(account, kind):
                return min(max(create_us, 0), 2**62), media_id
    except (ValueError, binascii.Error, RecursionError) as error:
        raise PageTokenInvalid("not one of ours") from error
    raise PageTokenInvalid("another query's or another person's")
