from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from chassis.certificates import Certificates, read
from chassis.clock import SystemClock
from chassis.keys import KeyRefused
from chassis.testing import FakeClock
from mesh import authority
from mesh.errors import PlaceUnsafe

pytestmark = pytest.mark.requirement("SAFE-1")


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_each_room_and_the_edge_get_a_certificate_and_a_private_key(tmp_path: Path) -> None:
    authority.ensure(tmp_path / "tls")
    folder = tmp_path / "tls"
    names = {"ca", "context", "orchestrator", "llm", "media", "envoy"}
    assert set(contents(folder)) == {f"{name}.{kind}" for name in names for kind in ("pem", "key")}
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}
    assert folder.stat().st_mode & 0o777 == 0o700
    Certificates.read(folder, "llm").for_server()


def test_a_second_start_makes_nothing_and_the_last_month_makes_it_anew(tmp_path: Path) -> None:
    clock = FakeClock(SystemClock().now_us())
    authority.ensure(tmp_path, clock)
    before = contents(tmp_path)
    clock.jump(timedelta(days=334))
    authority.ensure(tmp_path, clock)
    assert contents(tmp_path) == before
    clock.jump(timedelta(days=2))
    authority.ensure(tmp_path, clock)
    after = contents(tmp_path)
    assert {name for name in after if after[name] == before[name]} == {"ca.pem", "ca.key"}


def test_a_new_authority_signs_everything_anew(tmp_path: Path) -> None:
    authority.ensure(tmp_path)
    before = contents(tmp_path)
    (tmp_path / "ca.key").unlink()
    authority.ensure(tmp_path)
    after = contents(tmp_path)
    assert not {name for name in after if after[name] == before[name]}


def test_a_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    authority.ensure(tmp_path)
    (tmp_path / "llm.key").chmod(0o644)
    with pytest.raises(PlaceUnsafe):
        authority.ensure(tmp_path)
    with pytest.raises(KeyRefused, match="chmod"):
        Certificates.read(tmp_path, "llm")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(KeyRefused, match=r"llm\.key"):
        read(tmp_path, "llm")
    assert read(None, "llm") is None
