from pathlib import Path

import pytest

from mesh import record
from mesh.errors import AlreadyRunning, NotRunning
from mesh.places import Places, places
from mesh.record import Record

RECORD = Record(pid=4711, run="/r", bind="127.0.0.1", port=8099, model="m", rooms={"llm": 1})


@pytest.fixture
def where(tmp_path: Path) -> Places:
    made = places(tmp_path, runtime=tmp_path)
    made.make()
    return made


@pytest.mark.requirement("RUN-6")
def test_a_second_mesh_on_the_same_data_folder_is_refused_and_told_whose_it_is(where: Places) -> None:
    with record.owned(where):
        record.write(where, RECORD)
        with pytest.raises(AlreadyRunning, match=r"process 4711, port 8099"), record.owned(where):
            pytest.fail("two owners")
        assert record.running(where) == RECORD


def test_after_its_end_nothing_runs_and_nothing_is_left(where: Places) -> None:
    with record.owned(where):
        record.write(where, RECORD)

    assert record.last(where) is None
    with pytest.raises(NotRunning):
        record.running(where)


def test_a_record_whose_owner_was_killed_is_not_believed(where: Places) -> None:
    record.write(where, RECORD)

    assert record.last(where) == RECORD
    assert not record.is_owned(where)
    with pytest.raises(NotRunning):
        record.running(where)


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"pid": 1}'])
def test_a_damaged_record_is_no_record(where: Places, text: str) -> None:
    where.record.write_text(text)

    assert record.last(where) is None
