from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from chassis.database import Database
from tests.contracts.database import NOTES, DatabaseContract


class TestDatabase(DatabaseContract):
    @pytest.fixture
    async def notes(self, database: Database) -> AsyncIterator[Database]:
        await database.migrate([NOTES])
        yield database
