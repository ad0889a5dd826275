import json
from pathlib import Path

import pytest

from mesh import keys
from mesh.errors import PlaceUnsafe
from mesh.rooms import ROOMS


@pytest.mark.requirement("SAFE-1")
def test_each_room_gets_a_key_of_its_own_that_stays(tmp_path: Path) -> None:
    keys.ensure(tmp_path)
    first = (tmp_path / "rooms.jwks").read_text()
    keys.ensure(tmp_path)

    published = json.loads(first)["keys"]
    assert (tmp_path / "rooms.jwks").read_text() == first
    assert [key["kid"] for key in published] == [f"room:{room}" for room in ROOMS]
    assert len({key["x"] for key in published}) == len(ROOMS)
    assert all(set(key) == {"kty", "crv", "alg", "use", "kid", "x"} for key in published)
    assert keys.readable_by_others(tmp_path) == []


def test_a_key_that_others_can_read_is_found(tmp_path: Path) -> None:
    keys.ensure(tmp_path)
    (tmp_path / "llm.key").chmod(0o640)

    assert keys.readable_by_others(tmp_path) == [tmp_path / "llm.key"]


def test_something_else_in_the_place_of_a_key_is_refused(tmp_path: Path) -> None:
    (tmp_path / "media.key").write_text("not a key")

    with pytest.raises(PlaceUnsafe, match=r"media\.key (holds no private key|can be read by others)"):
        keys.ensure(tmp_path)
