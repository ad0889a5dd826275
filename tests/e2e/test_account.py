"""The end and the move of an account through the doors of a whole mesh, its real rooms and their logs."""

from __future__ import annotations

import base64
import hashlib
import json
import time
import zipfile
from pathlib import Path

import httpx
import pytest

from tests import holding
from tests.e2e.house import House, house, new_id

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

CANARY = "canary-3f90"


def upload(http: httpx.Client, data: bytes) -> None:
    header = {
        "requestId": new_id(),
        "size": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
        "fileName": f"{CANARY}.txt",
    }
    created = http.post("/v1/uploads", json={"header": header})
    assert created.status_code == 200, created.text
    made = created.json()["upload"]
    chunk = {"offset": 0, "chunk": base64.b64encode(data).decode()}
    written = http.post(f"/v1/uploads/{made['id']}:write", json=chunk)
    assert written.json()["upload"]["state"] == "UPLOAD_STATE_FINISHED", written.text


def imported(http: httpx.Client, archive: bytes) -> dict[str, object]:
    header = {
        "requestId": new_id(),
        "size": len(archive),
        "sha256": hashlib.sha256(archive).hexdigest(),
    }
    account_import = http.post("/v1/imports", json={"header": header}).json()["accountImport"]
    for at in range(0, len(archive), 200_000):
        chunk = {"offset": at, "chunk": base64.b64encode(archive[at : at + 200_000]).decode()}
        answer = http.post(f"/v1/imports/{account_import['id']}:write", json=chunk)
        assert answer.status_code == 200, answer.text
    until = time.monotonic() + 30
    while time.monotonic() < until:
        found: dict[str, object] = http.get(f"/v1/imports/{account_import['id']}").json()["accountImport"]
        if found["state"] != "IMPORT_STATE_APPLYING":
            return found
        time.sleep(0.1)
    raise TimeoutError("the import does not end")


def streamed(http: httpx.Client) -> bytes:
    """An archive as server-sent events."""
    archive, ended = b"", False
    with http.stream("POST", "/v1/users/me:export", json={"requestId": new_id()}) as answer:
        assert answer.status_code == 200
        for line in answer.iter_lines():
            if line.startswith("data:"):
                frame = json.loads(line.removeprefix("data:"))
                archive += base64.b64decode(frame.get("chunk", ""))
                ended = ended or "finished" in frame
    assert ended
    return archive


def wait_until_gone(folder: Path, within: float = 60) -> None:
    until = time.monotonic() + within
    while found := holding.files(folder, CANARY):
        assert time.monotonic() < until, found
        time.sleep(0.2)


@pytest.mark.requirement("ID-7")
@pytest.mark.requirement("ID-8")
@pytest.mark.requirement("SAFE-2")
def test_an_account_leaves_and_arrives_through_every_door(tmp_path: Path) -> None:
    data = tmp_path / "d"
    with house(data=data) as home:
        assert home.mesh("chat", "--once", f"{CANARY} hello").returncode == 0
        password = json.loads((data / "client" / "credentials.json").read_text())["password"]
        with home.http() as http:
            upload(http, f"{CANARY} in a file ".encode() * 5_000)
            archive = streamed(http)
            (tmp_path / "mine.zip").write_bytes(archive)
            names = zipfile.ZipFile(tmp_path / "mine.zip").namelist()
            assert "messages.jsonl" in names
            assert sum(name.startswith("blobs/") for name in names) == 1
            assert len(holding.files(data, CANARY)) >= 2
            deletion = {"requestId": new_id(), "password": password}
            assert http.post("/v1/users/me:delete", json=deletion).status_code == 200
            assert http.get("/v1/sessions").status_code == 401
        wait_until_gone(data)
        _arrives_again(home, tmp_path / "mine.zip")


def _arrives_again(home: House, archive: Path) -> None:
    """The terminal's next account takes up what the last one left, from the terminal and over JSON."""
    (Path(home.environment["MESH_DATA_DIR"]) / "client" / "credentials.json").unlink()
    assert home.mesh("account", "show").returncode == 0
    told = home.mesh("account", "import", str(archive))
    assert "messages" in told.stdout, told.stderr
    with home.http() as http:
        ended = imported(http, archive.read_bytes())
        assert ended["state"] == "IMPORT_STATE_FINISHED"
        assert "addedCounts" not in ended
        sessions = http.get("/v1/sessions").json()["sessions"]
        messages = http.get(f"/v1/sessions/{sessions[0]['id']}/messages").json()["messages"]
    assert any(CANARY in part.get("text", "") for each in messages for part in each["parts"])
