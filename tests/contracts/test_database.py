from __future__ import annotations

import pytest

from chassis.database import Database
from tests.contracts.database import NOTES, DatabaseContract


class TestDatabase(DatabaseContract):
    @pytest.fixture
    async def notes(self, database: Database) -> Database:
        await database.migrate([NOTES])
        return database
