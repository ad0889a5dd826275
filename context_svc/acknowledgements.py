"""What each device has shown to its person."""

from __future__ import annotations

from chassis.call import User
from chassis.database import Statement, Unit
from context_svc.errors import CursorAhead
from context_svc.messages import require_session
from context_svc.snapshots import Cursor


def acknowledge(user: User, cursor: Cursor) -> Unit[int]:
    """Raise the mark of the user's device in one session; answers the mark. Never lowers it.

    Raises SessionNotFound and CursorAhead.
    """
    last = yield from require_session(user.account, cursor.session_id)
    if cursor.sequence > last:
        raise CursorAhead(metadata={"last_sequence": str(last)})
    rows = yield Statement(
        "INSERT INTO acknowledgement (session_id, device_id, sequence)"
        " VALUES (:session, COALESCE((SELECT s.device_id FROM sign_in s WHERE s.id = :sign_in), :sign_in),"
        " :sequence)"
        " ON CONFLICT (session_id, device_id) DO UPDATE SET sequence ="
        " CASE WHEN excluded.sequence > acknowledgement.sequence THEN excluded.sequence"
        " ELSE acknowledgement.sequence END RETURNING sequence",
        {"session": cursor.session_id, "sequence": cursor.sequence, "sign_in": user.sign_in},
    )
    marked: int = rows[0]["sequence"]
    return marked
