"""Page tokens: opaque to the client, signed, and good for one person and one query only."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from context_svc.errors import PageTokenInvalid

Key: TypeAlias = Sequence[str | int]
"""Where a page ended: the ordering columns of its last row."""

_SIGNATURE = 16
DEFAULT, LARGEST = 50, 200
PAGE_BYTES = 2 * 1024 * 1024  # of content: an answer may have 4 MiB


@dataclass(frozen=True, kw_only=True, slots=True)
class Query:
    """What a token belongs to: whose list, which list, and everything that chooses or orders its rows."""

    account: str
    name: str
    filters: Mapping[str, str | int | bool]


class PageTokens:
    """Signs and reads page tokens."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def issue(self, query: Query, after: Key) -> str:
        """A token for the page after `after`."""
        body = json.dumps(list(after), separators=(",", ":")).encode()
        return base64.urlsafe_b64encode(self._sign(query, body) + body).rstrip(b"=").decode()

    def read(self, query: Query, token: str, shape: Sequence[type]) -> Key | None:
        """Where the page begins, its parts of the kinds in `shape`; None for the first page.

        Raises PageTokenInvalid for what was not issued for this query.
        """
        if not token:
            return None
        try:
            whole = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
        except (ValueError, binascii.Error) as error:
            raise PageTokenInvalid("not base64") from error
        signature, body = whole[:_SIGNATURE], whole[_SIGNATURE:]
        if not hmac.compare_digest(signature, self._sign(query, body)):
            raise PageTokenInvalid("another query, another person or a forgery")
        after: list[str | int] = json.loads(body)
        if [type(part) for part in after] != list(shape):
            raise PageTokenInvalid("of an older version")
        return after

    def _sign(self, query: Query, body: bytes) -> bytes:
        about = json.dumps([query.account, query.name, dict(query.filters)], sort_keys=True).encode()
        return hmac.digest(self._key, hashlib.sha256(about).digest() + body, hashlib.sha256)[:_SIGNATURE]


def page_size(asked: int) -> int:
    """How many rows a page has: 50 when nothing was asked, at most 200."""
    return min(asked or DEFAULT, LARGEST)


def fitting(sizes: Iterable[int], limit: int) -> int:
    """How many of these rows, each its bytes, fill a page of at most `limit` rows: at least one, if there is one."""
    total = count = 0
    for size in sizes:
        total += size
        if count == limit or (count and total > PAGE_BYTES):
            break
        count += 1
    return count
