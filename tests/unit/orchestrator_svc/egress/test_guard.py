"""The guard of the way out: whatever is named, nothing private is connected to."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from ipaddress import ip_address

import httpcore
import pytest

from orchestrator_svc.egress.addresses import is_for_operators, is_public
from orchestrator_svc.egress.failures import EgressFailure, Refused
from orchestrator_svc.egress.target import target
from orchestrator_svc.egress.web import Web, egress
from tests.unit.orchestrator_svc.egress.forms import (
    FORMS,
    NAMES,
    PUBLIC,
    PUBLIC_6,
    REDIRECTED,
    STATUSES,
    HostileResolver,
)

pytestmark = pytest.mark.requirement("SAFE-3")


class Sockets(httpcore.AsyncNetworkBackend):
    """Notes every connection; each answers the same bytes."""

    def __init__(self, answer: bytes = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi") -> None:
        self.answer = answer
        self.connected: list[tuple[str, int]] = []

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore's own parameter
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Connect to nothing."""
        self.connected.append((host, port))
        return httpcore.AsyncMockStream([self.answer])


@asynccontextmanager
async def guarded(sockets: Sockets) -> AsyncIterator[Web]:
    async with egress(resolve=HostileResolver(), own=lambda address: False, sockets=sockets) as out:
        yield await out.web()


def test_there_are_enough_forms() -> None:
    assert len(set(FORMS)) >= 120


async def test_no_form_of_an_address_is_connected_to() -> None:
    sockets = Sockets()
    async with guarded(sockets) as web:
        for form in FORMS:
            with pytest.raises(EgressFailure):
                await web.page(form, accept="*/*")
            assert sockets.connected == [], form


async def test_a_public_page_is_reached_at_the_address_that_was_checked() -> None:
    sockets = Sockets()
    async with guarded(sockets) as web:
        reply = await web.page("http://good.org/a?b=c", accept="*/*")
    assert (reply.status, reply.body, reply.url) == (200, b"hi", "http://good.org/a?b=c")
    assert sockets.connected == [(PUBLIC, 80)]


async def test_a_second_answer_of_the_resolver_changes_nothing() -> None:
    sockets = Sockets()
    async with guarded(sockets) as web:
        await web.page("http://rebinding.attacker.org/", accept="*/*")
        assert sockets.connected == [(PUBLIC, 80)]
        sockets.answer = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
    async with guarded(sockets) as web:
        await web.page("http://rebinding.attacker.org/", accept="*/*")
        with pytest.raises(Refused):
            await web.page("http://rebinding.attacker.org/", accept="*/*")
    assert set(sockets.connected) == {(PUBLIC, 80)}


@pytest.mark.parametrize("status", STATUSES)
async def test_a_redirect_is_checked_like_the_first_address(status: int) -> None:
    for led in REDIRECTED:
        sockets = Sockets(f"HTTP/1.1 {status} X\r\nLocation: {led}\r\nContent-Length: 0\r\n\r\n".encode())
        async with guarded(sockets) as web:
            with pytest.raises(EgressFailure):
                await web.page("http://good.org/", accept="*/*")
        assert sockets.connected == [(PUBLIC, 80)], led


async def test_redirects_end() -> None:
    sockets = Sockets(b"HTTP/1.1 302 X\r\nLocation: /again\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
    async with guarded(sockets) as web:
        with pytest.raises(Refused, match="too often"):
            await web.page("http://good.org/", accept="*/*")
    assert len(sockets.connected) == 6


async def test_a_redirect_does_not_leave_the_encrypted_connection() -> None:
    from orchestrator_svc.egress.target import joined

    with pytest.raises(Refused, match="encrypted"):
        joined(target("https://good.org/a"), "http://good.org/b")
    assert joined(target("http://good.org/a"), "https://good.org/b").port == 443


async def test_a_page_that_points_elsewhere_in_its_text_is_not_followed() -> None:
    page = b'<meta http-equiv="refresh" content="0;url=http://127.0.0.1/">'
    sockets = Sockets(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(page), page))
    async with guarded(sockets) as web:
        assert (await web.page("http://good.org/", accept="*/*")).body == page
    assert sockets.connected == [(PUBLIC, 80)]


async def test_a_proxy_of_the_environment_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:3128")
    sockets = Sockets()
    async with guarded(sockets) as web:
        await web.page("http://good.org/", accept="*/*")
    assert sockets.connected == [(PUBLIC, 80)]


async def test_the_machines_own_public_address_is_not_reached() -> None:
    sockets = Sockets()
    own = ip_address(PUBLIC)
    async with egress(resolve=HostileResolver(), own=lambda each: each == own, sockets=sockets) as out:
        with pytest.raises(Refused):
            await (await out.web()).page("http://good.org/", accept="*/*")
    assert sockets.connected == []


@pytest.mark.parametrize("address", ["127.0.0.1", "10.0.0.5", "192.168.0.1", "fd00::1", "::1", PUBLIC])
async def test_a_service_of_the_operator_may_be_private_when_a_setting_says_so(address: str) -> None:
    shown = f"[{address}]" if ":" in address else address
    sockets = Sockets()
    async with egress(own=lambda address: False, sockets=sockets) as out:
        assert (await (await out.site(f"http://{shown}:8888/base", private=True)).get("x")).status == 200
        assert sockets.connected == [(address, 8888)]
        site = await out.site(f"http://{shown}:8888/base")
        if address != PUBLIC:
            with pytest.raises(Refused):
                await site.get("x")
            assert len(sockets.connected) == 1


@pytest.mark.parametrize(
    "address",
    ["169.254.169.254", "fd00:ec2::254", "100.100.100.200", "fe80::1", "::ffff:169.254.169.254", "0.0.0.0"],
)
def test_the_keys_of_a_machine_are_not_given_away_even_then(address: str) -> None:
    assert not is_for_operators(ip_address(address))


@pytest.mark.parametrize("address", [PUBLIC, PUBLIC_6, "1.1.1.1", "64:ff9b::101:101", "2001:4860:4860::8888"])
def test_public_addresses_are_public(address: str) -> None:
    assert is_public(ip_address(address))


def test_an_international_name_is_asked_for_in_its_own_letters() -> None:
    assert target("http://münchen.de/straße").host == "xn--mnchen-3ya.de"


def test_every_hostile_name_is_among_the_forms() -> None:
    assert all(any(name in form for form in FORMS) for name in NAMES if name != "rebinding.attacker.org")
