"""An upload on its way to a file: announced, receiving, checking, then finished or failed. Never awaits.

::

    open ──► RECEIVING ──append──► CHECKING ──finish──► FINISHED
      │          └───────fail──────────┴──────fail────► FAILED
      └── these bytes are kept already ───────────────► FINISHED
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum

from chassis.database import Row, Statement, Unit
from chassis.errors import StoreUnavailable
from media_svc import library, outbox
from media_svc.blobs import parts_prefix
from media_svc.errors import IdempotencyKeyReused, OffsetMismatch, QuotaExceeded, Refusal, UploadNotFound
from media_svc.library import Media

KEPT_US = round(timedelta(hours=24).total_seconds() * 1e6)


class State(Enum):
    """Where an upload stands; the value is what the store says."""

    RECEIVING = "RECEIVING"
    CHECKING = "CHECKING"
    FINISHED = "FINISHED"
    FAILED = "FAILED"


@dataclass(frozen=True, kw_only=True, slots=True)
class Announced:
    """What the client says it will send. `request_id` names the upload among the person's."""

    request_id: str
    size: int
    sha256: str
    file_name: str
    mime_type: str
    local_only: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Upload:
    """An upload. `failure` is the reason why it failed; `media` the file once it is finished."""

    id: str
    account: str
    announced: Announced
    state: State
    received: int
    media: Media | None
    failure: str | None
    expire_us: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """A piece that arrived."""

    position: int
    size: int
    blob_key: str


def beginning(upload: Upload, offset: int, length: int) -> int | None:
    """How many bytes at the front of a chunk are here already; None when nothing of it is wanted.

    Raises OffsetMismatch when it would leave a gap.
    """
    if upload.state is not State.RECEIVING or offset + length <= upload.received:
        return None
    if offset > upload.received:
        raise OffsetMismatch(metadata={"offset": str(upload.received)})
    return upload.received - offset


def open_upload(
    account: str, upload_id: str, announced: Announced, *, quota: int, now_us: int
) -> Unit[Upload]:
    """Begin an upload, or find the one of that request id. Raises IdempotencyKeyReused and QuotaExceeded."""
    yield from library.lock(account, now_us)
    known = yield from _by_request(account, announced.request_id, now_us)
    if known is not None:
        if known.announced != announced:
            raise IdempotencyKeyReused
        return known
    media = yield from library.seen_again(
        account, announced.sha256, local_only=announced.local_only, now_us=now_us
    )
    if media is None:
        yield from check_quota(account, announced.size, quota)
    upload = Upload(
        id=upload_id,
        account=account,
        announced=announced,
        state=State.RECEIVING if media is None else State.FINISHED,
        received=0 if media is None else announced.size,
        media=media,
        failure=None,
        expire_us=now_us + KEPT_US,
    )
    yield from _insert(upload)
    return upload


def find(account: str, upload_id: str, now_us: int) -> Unit[Upload]:
    """One upload of this person. Raises UploadNotFound."""
    rows = yield Statement(
        "SELECT * FROM upload WHERE id = :id AND account = :account AND expire_us > :now",
        {"id": upload_id, "account": account, "now": now_us},
    )
    if not rows:
        raise UploadNotFound
    return (yield from _upload(rows[0], now_us))


def append(account: str, upload_id: str, part: Part, now_us: int) -> Unit[Upload]:
    """Count a part whose bytes are durable; the last one begins the check.

    A part that came twice is counted once. Raises UploadNotFound, OffsetMismatch and TokenRevoked.
    """
    yield from library.lock(account, now_us)
    rows = yield Statement(
        "UPDATE upload SET received = received + CAST(:size AS BIGINT),"
        " state = CASE WHEN received + CAST(:size AS BIGINT) = size THEN 'CHECKING' ELSE state END"
        " WHERE id = :id AND account = :account AND state = 'RECEIVING' AND received = :position"
        " AND expire_us > :now RETURNING *",
        {
            "id": upload_id,
            "account": account,
            "size": part.size,
            "position": part.position,
            "now": now_us,
        },
    )
    if not rows:
        upload = yield from find(account, upload_id, now_us)
        if beginning(upload, part.position, part.size) is not None:
            raise OffsetMismatch(metadata={"offset": str(upload.received)})
        yield from outbox.schedule(part.blob_key, now_us)
        return upload
    yield Statement(
        "INSERT INTO upload_part (upload_id, position, size, blob_key) VALUES (:id, :position, :size, :key)",
        {"id": upload_id, "position": part.position, "size": part.size, "key": part.blob_key},
    )
    return (yield from _upload(rows[0], now_us))


def parts(upload_id: str) -> Unit[Sequence[Part]]:
    """Everything that arrived, in order."""
    rows = yield Statement(
        "SELECT position, size, blob_key FROM upload_part WHERE upload_id = :id ORDER BY position",
        {"id": upload_id},
    )
    return [Part(position=row["position"], size=row["size"], blob_key=row["blob_key"]) for row in rows]


def finish(upload: Upload, media: Media, now_us: int) -> Unit[Upload]:
    """Keep the checked file, whose bytes are durable under its key. One wins when several checked it.

    Raises UploadNotFound, and StoreUnavailable when the bytes have been swept meanwhile: check again.
    """
    yield from library.lock(upload.account, now_us)
    current = yield from find(upload.account, upload.id, now_us)
    if current.media is not None and current.media.blob_key == media.blob_key:
        return current
    if current.state is not State.CHECKING:
        yield from outbox.schedule(media.blob_key, now_us)
        return current
    kept = yield from library.seen_again(
        upload.account, media.upload_sha256, local_only=media.local_only, now_us=now_us
    )
    if kept is not None:
        yield from outbox.schedule(media.blob_key, now_us)
    elif (yield from outbox.withdraw(media.blob_key)):
        yield from library.add(kept := media)
    else:
        raise StoreUnavailable("the checked bytes were swept")
    return (yield from _end(upload, State.FINISHED, now_us, media_id=kept.id))


def fail(upload: Upload, refusal: Refusal, now_us: int) -> Unit[Upload]:
    """Refuse the file and drop what arrived. An upload that has ended stays as it ended."""
    yield from library.lock(upload.account, now_us)
    current = yield from find(upload.account, upload.id, now_us)
    if current.state in (State.FINISHED, State.FAILED):
        return current
    return (yield from _end(upload, State.FAILED, now_us, failure=refusal.reason))


def expire(now_us: int) -> Unit[int]:
    """Forget up to 100 uploads after their 24 h, and what arrived of them; how many."""
    rows = yield Statement(
        "DELETE FROM upload WHERE id IN"
        " (SELECT id FROM upload WHERE expire_us <= :now ORDER BY expire_us LIMIT 100)"
        " RETURNING id",
        {"now": now_us},
    )
    for row in rows:
        yield from outbox.schedule(parts_prefix(row["id"]), now_us)
    return len(rows)


def unchecked(now_us: int) -> Unit[Sequence[Upload]]:
    """Uploads that wait for their check: of this process, or of one that died."""
    rows = yield Statement(
        "SELECT * FROM upload WHERE state = 'CHECKING' AND expire_us > :now ORDER BY expire_us LIMIT 100",
        {"now": now_us},
    )
    found = []
    for row in rows:
        found.append((yield from _upload(row, now_us)))
    return found


def _end(
    upload: Upload, state: State, now_us: int, *, media_id: str | None = None, failure: str | None = None
) -> Unit[Upload]:
    yield Statement("DELETE FROM upload_part WHERE upload_id = :id", {"id": upload.id})
    yield from outbox.schedule(parts_prefix(upload.id), now_us)
    rows = yield Statement(
        "UPDATE upload SET state = :state, media_id = :media, failure = :failure WHERE id = :id RETURNING *",
        {"id": upload.id, "state": state.value, "media": media_id, "failure": failure},
    )
    return (yield from _upload(rows[0], now_us))


def check_quota(account: str, size: int, quota: int) -> Unit[None]:
    """Raises QuotaExceeded when so many bytes more are too many."""
    kept = yield from library.used(account)
    rows = yield Statement(
        "SELECT CAST(COALESCE(SUM(size), 0) AS BIGINT) AS bytes FROM upload"
        " WHERE account = :account AND state IN ('RECEIVING', 'CHECKING')",
        {"account": account},
    )
    if quota and kept + rows[0]["bytes"] + size > quota:
        raise QuotaExceeded(quota="media_bytes", metadata={"limit": str(quota)})


def _by_request(account: str, request_id: str, now_us: int) -> Unit[Upload | None]:
    """The person's upload of that id. One whose time is over makes room for a new one."""
    rows = yield Statement(
        "SELECT * FROM upload WHERE account = :account AND request_id = :request",
        {"account": account, "request": request_id},
    )
    if not rows:
        return None
    if rows[0]["expire_us"] > now_us:
        return (yield from _upload(rows[0], now_us))
    yield Statement("DELETE FROM upload WHERE id = :id", {"id": rows[0]["id"]})
    yield from outbox.schedule(parts_prefix(rows[0]["id"]), now_us)
    return None


def _insert(upload: Upload) -> Unit[None]:
    yield Statement(
        "INSERT INTO upload (id, account, request_id, size, sha256, file_name, mime_type, local_only, state,"
        " received, media_id, failure, expire_us) VALUES (:id, :account, :request_id, :size, :sha256,"
        " :file_name, :mime_type, :local_only, :state, :received, :media_id, NULL, :expire_us)",
        {
            "id": upload.id,
            "account": upload.account,
            "request_id": upload.announced.request_id,
            "size": upload.announced.size,
            "sha256": upload.announced.sha256,
            "file_name": upload.announced.file_name,
            "mime_type": upload.announced.mime_type,
            "local_only": int(upload.announced.local_only),
            "state": upload.state.value,
            "received": upload.received,
            "media_id": upload.media.id if upload.media else None,
            "expire_us": upload.expire_us,
        },
    )


def _upload(row: Row, now_us: int) -> Unit[Upload]:
    media = None
    if row["media_id"] is not None:
        media = yield from library.find(row["account"], row["media_id"], now_us)
    return Upload(
        id=row["id"],
        account=row["account"],
        announced=Announced(
            request_id=row["request_id"],
            size=row["size"],
            sha256=row["sha256"],
            file_name=row["file_name"],
            mime_type=row["mime_type"],
            local_only=bool(row["local_only"]),
        ),
        state=State(row["state"]),
        received=row["received"],
        media=media,
        failure=row["failure"],
        expire_us=row["expire_us"],
    )
