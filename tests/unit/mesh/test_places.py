import os
from pathlib import Path

import pytest

from mesh.errors import PlaceUnsafe
from mesh.places import LONGEST_SOCKET_PATH, places
from mesh.rooms import ROOMS, admin_socket, operator_socket, socket


@pytest.mark.requirement("RUN-6")
@pytest.mark.parametrize("depth", [1, 40, 400])
def test_every_socket_path_fits_however_deep_the_data_folder_is(depth: int) -> None:
    where = places(Path("/", *["data"] * depth), runtime=Path("/run/user/1000"))

    sockets = [admin_socket(where), operator_socket(where), *(socket(where, room) for room in ROOMS)]

    assert max(len(os.fsencode(path)) for path in sockets) <= LONGEST_SOCKET_PATH


@pytest.mark.requirement("RUN-6")
def test_a_short_data_folder_keeps_its_sockets_itself() -> None:
    assert places(Path("/srv/a"), runtime=Path("/run/user/1")).run == Path("/srv/a/run")


@pytest.mark.requirement("RUN-6")
def test_two_long_data_folders_get_two_runtime_folders() -> None:
    runtime = Path("/run/user/1000")
    one, other = (places(Path("/d" * 60) / name, runtime=runtime).run for name in ("a", "b"))

    assert one != other
    assert one.parent == other.parent == runtime


def test_without_a_session_folder_the_temporary_one_is_used_under_this_users_name() -> None:
    assert f"mesh-{os.getuid()}-" in str(places(Path("/d" * 60), runtime=None).run)


def test_the_folders_are_made_private_and_open_ones_are_closed(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir(mode=0o755)
    where = places(data, runtime=tmp_path)

    where.make()

    for folder in (where.data, where.run, where.keys, where.logs, where.models, where.client):
        assert folder.stat().st_mode & 0o777 == 0o700


def test_a_link_where_a_private_folder_should_be_is_refused(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "data").symlink_to(tmp_path / "elsewhere")

    with pytest.raises(PlaceUnsafe, match="not a folder of yours"):
        places(tmp_path / "data", runtime=tmp_path).make()
