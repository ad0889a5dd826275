"""The page at `/`: served by the edge, whole from this origin, and its commands work as they stand."""

from __future__ import annotations

import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import httpx
import pytest

from tests.edge.conftest import Mesh
from tests.edge.proxy import REPOSITORY

pytestmark = pytest.mark.slow
WEB = REPOSITORY / "envoy" / "web"


class Page(HTMLParser):
    """What a page loads and which ids it has."""

    def __init__(self) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.ids: set[str] = set()
        self.inline_scripts = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.ids.add(given.get("id") or "")
        self.inline_scripts += tag == "script" and "src" not in given
        self.loads += [value for name, value in attrs if name in ("src", "href") and value]
        assert not [name for name in given if name.startswith("on")], "an inline handler"


@pytest.mark.requirement("EDGE-1")
async def test_the_page_and_all_it_loads_come_from_the_one_port(http: httpx.AsyncClient) -> None:
    answer = await http.get("/")
    page = Page()
    page.feed(answer.text)

    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert "script-src 'self' 'wasm-unsafe-eval'" in answer.headers["content-security-policy"]
    assert (answer.headers["x-content-type-options"], answer.headers["cache-control"]) == (
        "nosniff",
        "no-cache",
    )
    assert page.inline_scripts == 0
    types = {}
    for address in page.loads:
        assert "//" not in address
        if not address.startswith("#"):
            found = await http.get("/" + address)
            types[address] = found.headers.get("content-type", "")
            assert found.status_code == 200, address
    assert types["page.js"].startswith("text/javascript")
    assert types["page.css"].startswith("text/css")


def test_the_page_s_script_names_only_what_the_page_has() -> None:
    page = Page()
    page.feed((WEB / "index.html").read_text("utf-8"))
    script = (WEB / "page.js").read_text("utf-8")
    assert set(re.findall(r"(?:\bat|put)\('([\w-]+)'", script)) <= page.ids
    assert "innerHTML" not in script


@pytest.mark.requirement("RUN-5")
@pytest.mark.parametrize("with_reflection", [True, False], ids=["by reflection", "with the descriptor set"])
def test_a_generic_grpc_client_calls_with_a_token(mesh: Mesh, with_reflection: bool) -> None:
    buf = str(Path(sys.executable).parent / "buf")
    header = f"authorization: Bearer {mesh.tokens.make()}"
    schema = (
        ["--reflect-header", header]
        if with_reflection
        else ["--schema", str(REPOSITORY / "generated" / "descriptors.binpb")]
    )
    command = [buf, "curl", "--protocol", "grpc", "--http2-prior-knowledge", *schema, "--header", header]
    target = f"{mesh.edge.url}/assistant.session.v1.SessionService/GetSession"
    done = subprocess.run(
        [*command, "--data", '{"session_id": "s1"}', target],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert '"title"' in done.stdout
