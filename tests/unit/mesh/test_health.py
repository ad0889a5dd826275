import pytest

from mesh.health import MeshStatus, RoomStatus, rows


def told(health: str, note: str = "", streams: int | None = None) -> MeshStatus:
    room = RoomStatus(name="llm", version="0.1.0", health=health, note=note, open_streams=streams)
    return MeshStatus(version="0.1.0", turns={}, setup_needed=False, rooms=(room,))


@pytest.mark.requirement("RUN-4")
@pytest.mark.parametrize(
    ("status", "note", "streams"),
    [
        (told("serving", streams=0), "", "0"),
        (told("unspecified"), "", ""),
        (told("unreachable"), "context_svc finds it unreachable", ""),
        (told("starting", note="loading 40 %"), "loading 40 %", ""),
        (None, "", ""),
    ],
)
def test_what_context_svc_knows_stands_beside_what_was_found(
    status: MeshStatus | None, note: str, streams: str
) -> None:
    (row,) = rows({"llm": True}, status)

    assert (row.name, row.serving, row.note, row.streams) == ("llm", True, note, streams)
