import os
import socket
from collections.abc import Iterator

import pytest

from mesh.errors import PortTaken
from mesh.ports import holder, is_free, listening, require_free

TABLE = """\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1
   1: 0100007F:1F90 0100007F:C001 01 00000000:00000000 00:00000000 00000000     0        0 4712 1
   2: 0100007F:1F91 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4713 1
"""


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_only_the_socket_that_listens_on_the_port_counts() -> None:
    assert list(listening(TABLE, 8080)) == ["4711"]


@pytest.mark.requirement("RUN-4")
def test_a_taken_port_is_told_with_who_has_it_and_what_to_do(taken: int) -> None:
    with pytest.raises(PortTaken) as failure:
        require_free("127.0.0.1", taken)

    assert f"Port {taken} is taken by" in failure.value.what
    assert f"(process {os.getpid()})" in failure.value.what
    assert f"MESH_PORT={taken + 1}" in failure.value.cure


def test_a_port_that_nobody_has_is_free(taken: int) -> None:
    assert not is_free("127.0.0.1", taken)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    assert is_free("127.0.0.1", port)
    assert holder(port) is None
