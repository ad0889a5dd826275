"""get_context and set_context: what is noted for a conversation."""

from __future__ import annotations

import json
import re

from chassis.database import Unit
from context_svc.errors import ContextSourceForbidden
from context_svc.hosting import Act, Asked, Told, refused, text
from context_svc.item_rows import Selection, live
from context_svc.items import DEVICE_PREFIX, MEMORY_PREFIX, Item, Placement, Scope
from context_svc.leavings import Put, Update, writes

_KEY = re.compile(r"[a-z0-9_.-]{1,128}")
SHOWN_BYTES = 16 * 1024


class SetContext:
    """Sets an item of the session, as a tool: what the person wrote under the key stays."""

    name = "set_context"

    def __init__(self, put: Put) -> None:
        self._put = put

    async def begin(self, asked: Asked) -> Act:
        """See `context_svc.hosting.HostAction`. Raises ArgumentsInvalid and ContextSourceForbidden."""
        key, value = text(asked, "key"), text(asked, "value")
        if not _KEY.fullmatch(key):
            raise refused("key", "must be made of a-z, 0-9, '_', '.' and '-', at most 128 of them")
        if key.startswith((DEVICE_PREFIX, MEMORY_PREFIX)):
            raise ContextSourceForbidden
        return lambda now_us: self._set(asked, key, value, now_us)

    def _set(self, asked: Asked, key: str, value: str, now_us: int) -> Unit[Told]:
        scope = Scope(account_id=asked.claim.account_id, session_id=asked.claim.session_id)
        update = Update(key=key, value=json.dumps(value, ensure_ascii=False))
        then = yield from self._put(scope, writes(asked.claim, self.name, [update]), now_us)
        return Told(content=f"Noted {key}.", context_keys=(key,), thens=(then,))


class GetContext:
    """Reads items of the session and the person by the beginning of their keys, without what must stay here."""

    name = "get_context"

    async def begin(self, asked: Asked) -> Act:
        """See `context_svc.hosting.HostAction`. Raises ArgumentsInvalid."""
        prefix = text(asked, "key", default="")
        return lambda now_us: self._read(asked, prefix, now_us)

    def _read(self, asked: Asked, prefix: str, now_us: int) -> Unit[Told]:
        account, session = asked.claim.account_id, asked.claim.session_id
        found: dict[str, Item] = {}
        for scope in (Scope(account_id=account), Scope(account_id=account, session_id=session)):
            for item in (yield from live(scope, Selection(prefix=prefix), now_us)):
                if item.placement is not Placement.LOCAL_ONLY and not item.key.startswith(MEMORY_PREFIX):
                    found[item.key] = item
        lines, size = [], 0
        for key, item in sorted(found.items()):
            line = f"{key}: {item.value}"
            size += len(line.encode())
            if size > SHOWN_BYTES:
                lines.append("There is more; ask for a longer key.")
                break
            lines.append(line)
        return Told(content="\n".join(lines) or "Nothing is noted.")
