"""What is too large, too much, malformed or from elsewhere, and what the edge keeps to itself."""

from __future__ import annotations

import asyncio
import json
import subprocess

import grpc
import httpx
import pytest

from chassis.testing import socket_directory
from tests.edge import proxy
from tests.edge.calls import EMPTY_FRAME, FRAME_WEB, from_json, native_failure
from tests.edge.conftest import Mesh
from tests.edge.proxy import ORIGIN

pytestmark = pytest.mark.slow
MEBIBYTE = 1_048_576


async def _raw(port: int, request: bytes) -> bytes:
    """Send bytes as they are and answer what comes until the edge closes, within 15 s."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(request)
        await writer.drain()
        return await asyncio.wait_for(reader.read(), 15)
    finally:
        writer.close()


@pytest.mark.requirement("EDGE-2")
async def test_a_json_body_over_1_mib_is_answered_413(mesh: Mesh, http: httpx.AsyncClient) -> None:
    large = await http.post("/v1/sessions", content=b" " * (MEBIBYTE + 1), headers=mesh.bearer())
    fits = await http.post("/v1/sessions", content=b" " * (MEBIBYTE - 2) + b"{}", headers=mesh.bearer())

    assert (large.status_code, from_json(large).reason) == (413, "MESSAGE_TOO_LARGE")
    assert fits.status_code == 200


@pytest.mark.requirement("EDGE-2")
@pytest.mark.parametrize(
    "headers",
    [{"x-large": "y" * 17_000}, {f"x-{number}": "y" for number in range(70)}],
    ids=["size", "count"],
)
async def test_too_many_or_too_large_headers_are_answered_431(
    http: httpx.AsyncClient, headers: dict[str, str]
) -> None:
    answer = await http.get("/v1/server", headers=headers)
    assert (answer.status_code, from_json(answer).reason) == (431, "MESSAGE_TOO_LARGE")


@pytest.mark.requirement("EDGE-2")
@pytest.mark.parametrize("length", [7_000, 11_000, 15_000])
async def test_what_the_edge_lets_through_the_room_does_too(
    mesh: Mesh, http: httpx.AsyncClient, length: int
) -> None:
    answer = await http.get("/v1/sessions/s1", headers=mesh.bearer() | {"x-long": "y" * length})
    assert (answer.status_code, answer.json()["session"]["id"]) == (200, "s1")


@pytest.mark.requirement("EDGE-2")
@pytest.mark.parametrize(
    ("path", "body", "headers"),
    [
        ("/v1/sessions", b"{no json", {}),
        ("/v1/sessions", b'{"title": 5}', {}),
        ("/v1/sessions", b"[]", {}),
        ("/v1/sessions?unknown=1", b"{}", {}),
        ("/v1/sessions", b"{}", {"x_user_id": "bob"}),
        ("/v1/sessions%2Fs1", b"{}", {}),
    ],
    ids=["no JSON", "a wrong type", "a list", "an unknown query", "an underscore", "an escaped slash"],
)
async def test_what_cannot_be_read_is_answered_400(
    mesh: Mesh, http: httpx.AsyncClient, path: str, body: bytes, headers: dict[str, str]
) -> None:
    answer = await http.post(path, content=body, headers=mesh.bearer() | headers)
    failure = from_json(answer)
    assert (answer.status_code, failure.code, failure.reason) == (400, 3, "MALFORMED_MESSAGE")


@pytest.mark.requirement("EDGE-2")
async def test_bytes_that_are_no_http_are_answered_400_in_json(mesh: Mesh) -> None:
    answer = await _raw(mesh.edge.port, b"GET / HTTP/1.1\r\nhost: x\r\nbad header\r\n\r\n")
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    assert json.loads(body)["details"][0]["reason"] == "MALFORMED_MESSAGE"


@pytest.mark.requirement("EDGE-2")
async def test_headers_that_come_too_slowly_are_shed(mesh: Mesh) -> None:
    answer = await _raw(mesh.edge.port, b"GET / HTTP/1.1\r\nhost: x\r\n")  # and never more
    assert answer == b"" or answer.startswith(b"HTTP/1.1 408 ")


@pytest.mark.requirement("EDGE-2")
@pytest.mark.parametrize("verb", ["CONNECT", "GET"])
async def test_tunnels_and_upgrades_are_refused(mesh: Mesh, verb: str) -> None:
    target = "example.com:443" if verb == "CONNECT" else "/"
    request = f"{verb} {target} HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n"
    reader, writer = await asyncio.open_connection("127.0.0.1", mesh.edge.port)
    writer.write(request.encode())
    status = await asyncio.wait_for(reader.readline(), 20)
    writer.close()
    assert int(status.split()[1]) in (403, 404)


@pytest.mark.requirement("EDGE-2")
async def test_one_address_has_a_rate_over_all_doors(mesh: Mesh) -> None:
    with socket_directory() as folder:
        values = proxy.local_values(mesh.folder, proxy.free_port()) | {
            "ADMIN_SOCKET": str(folder / "admin.sock"),
            "RATE_BURST": "4",
            "RATE_PER_SECOND": "1",
        }
        with proxy.envoy(folder, values) as edge:
            async with (
                httpx.AsyncClient(base_url=edge.url, timeout=10) as http,
                grpc.aio.insecure_channel(f"127.0.0.1:{edge.port}") as channel,
            ):
                for _ in range(8):
                    last = await http.get("/v1/server")
                native = await native_failure(channel, "/grpc.health.v1.Health/Check", {})
                web = await http.post("/x.Y/Z", content=EMPTY_FRAME, headers=FRAME_WEB)

    failure = from_json(last)
    assert (last.status_code, failure.code, failure.reason) == (429, 8, "RATE_LIMITED")
    assert last.headers["retry-after"] == "1"
    assert native == failure  # RESOURCE_EXHAUSTED, never UNAVAILABLE: that is what clients retry at once
    assert (web.status_code, web.headers["grpc-status"]) == (200, "8")


@pytest.mark.requirement("EDGE-2")
@pytest.mark.parametrize(
    "path", ["/v1/sessions/s1", "/assistant.session.v1.SessionService/GetSession"], ids=["JSON", "grpc-web"]
)
async def test_a_browser_may_call_from_a_listed_origin_only(
    mesh: Mesh, http: httpx.AsyncClient, path: str
) -> None:
    ask = {"access-control-request-method": "POST", "access-control-request-headers": "authorization"}
    allowed = await http.options(path, headers=ask | {"origin": ORIGIN})
    others = [
        await http.options(path, headers=ask | {"origin": origin})
        for origin in ("https://evil.example", f"{ORIGIN}.evil.example", "null", ORIGIN.replace("s:", ":"))
    ]
    called = await http.get("/v1/sessions/s1", headers=mesh.bearer() | {"origin": ORIGIN})
    refused = await http.get("/v1/sessions/s1", headers={"origin": ORIGIN})

    assert allowed.headers["access-control-allow-origin"] == ORIGIN
    assert "authorization" in allowed.headers["access-control-allow-headers"]
    assert not [answer for answer in others if "access-control-allow-origin" in answer.headers]
    for answer in (called, refused):  # also a refusal can be read
        exposed = set(answer.headers["access-control-expose-headers"].split(", "))
        assert {"grpc-status", "grpc-message", "grpc-status-details-bin", "x-request-id"} <= exposed


def test_the_admin_interface_is_on_its_socket_and_on_no_port(mesh: Mesh) -> None:
    assert mesh.edge.admin.stat().st_mode & 0o777 == 0o600
    assert mesh.edge.ask_admin("/ready").text.strip() == "LIVE"
    listening = subprocess.run(
        ["ss", "-Hltnp"], capture_output=True, text=True, timeout=10, check=True
    ).stdout.splitlines()
    ports = [line.split()[3] for line in listening if f"pid={mesh.edge.process.pid}," in line]
    assert ports == [f"127.0.0.1:{mesh.edge.port}"]


async def test_two_edges_run_side_by_side_but_not_on_one_port(mesh: Mesh) -> None:
    with socket_directory() as folder:
        values = proxy.local_values(mesh.folder, proxy.free_port())
        values |= {"ADMIN_SOCKET": str(folder / "admin.sock")}
        with proxy.envoy(folder, values) as edge:
            async with httpx.AsyncClient(timeout=10) as client:
                answers = [await client.get(f"{url}/v1/server") for url in (mesh.edge.url, edge.url)]
        assert [answer.status_code for answer in answers] == [200, 200]

        taken = values | {"MESH_PORT": str(mesh.edge.port)}
        with pytest.raises(AssertionError, match="Address already in use"), proxy.envoy(folder, taken):
            pass


async def test_a_room_that_is_away_is_said_so_on_every_door() -> None:
    with socket_directory() as folder:
        (folder / "keys").mkdir()
        values = proxy.local_values(folder, proxy.free_port())  # no room listens there
        with proxy.envoy(folder, values) as edge:
            async with (
                httpx.AsyncClient(base_url=edge.url, timeout=10) as http,
                grpc.aio.insecure_channel(f"127.0.0.1:{edge.port}") as channel,
            ):
                answered = await http.get("/v1/server")
                healthy = await http.get("/healthz")
                native = await native_failure(channel, "/grpc.health.v1.Health/Check", {})
    assert (answered.status_code, healthy.status_code) == (503, 503)
    assert from_json(answered) == native
    assert (native.code, native.reason) == (14, "PEER_UNAVAILABLE")
