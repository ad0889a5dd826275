import socket
from dataclasses import dataclass
from pathlib import Path

import pytest

from chassis.clock import SystemClock
from mesh import doctor, keys, record
from mesh.doctor import Patient
from mesh.manifest import built_in
from mesh.places import Places, places
from mesh.settings import MeshSettings


@dataclass(frozen=True)
class Stopped(SystemClock):
    at_us: int

    def now_us(self) -> int:
        return self.at_us


@pytest.fixture
def port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@pytest.fixture
def where(tmp_path: Path) -> Places:
    made = places(tmp_path / "data", runtime=tmp_path)
    made.make()
    keys.ensure(made.keys)
    return made


@pytest.fixture
def patient(where: Places, port: int) -> Patient:
    return Patient(settings=MeshSettings(port=port, model="tiny"), places=where, clock=SystemClock())


def told(finding: doctor.Finding) -> str:
    return " ".join(f"{problem.what} {problem.cure}" for problem in finding.problems)


@pytest.mark.requirement("RUN-4")
def test_a_taken_port_is_a_problem_unless_the_mesh_itself_has_it(patient: Patient, port: int) -> None:
    assert doctor.look_at_port(patient).problems == ()
    with socket.create_server(("127.0.0.1", port)):
        assert f"Port {port} is taken" in told(doctor.look_at_port(patient))
        with record.owned(patient.places):
            assert doctor.look_at_port(patient).problems == ()


@pytest.mark.requirement("RUN-4")
def test_a_missing_model_is_a_problem_and_so_is_one_with_other_bytes(patient: Patient) -> None:
    assert "is missing" in told(doctor.look_at_model(patient))

    (patient.places.models / built_in()["tiny"].file).write_bytes(b"other bytes")

    assert "has SHA-256" in told(doctor.look_at_model(patient))


@pytest.mark.requirement("RUN-4")
def test_a_misspelt_model_is_a_problem(patient: Patient) -> None:
    wrong = Patient(settings=MeshSettings(model="tinny"), places=patient.places, clock=patient.clock)

    assert "Did you mean tiny" in told(doctor.look_at_model(wrong))


@pytest.mark.requirement("RUN-4")
@pytest.mark.parametrize(
    ("at_us", "words"), [(0, "cannot be right"), (4_000_000_000_000_000, "cannot be right")]
)
def test_a_date_that_cannot_be_is_a_problem(patient: Patient, at_us: int, words: str) -> None:
    wrong = Patient(settings=patient.settings, places=patient.places, clock=Stopped(at_us))

    assert words in told(doctor.look_at_clock(wrong))
    assert doctor.look_at_clock(patient).problems == ()


@pytest.mark.requirement("RUN-4")
def test_a_clock_behind_what_was_written_is_a_problem(patient: Patient) -> None:
    earlier = Stopped(SystemClock().now_us() - 3_600_000_000)

    behind = doctor.look_at_clock(Patient(settings=patient.settings, places=patient.places, clock=earlier))

    assert "min behind what this mesh wrote" in told(behind)


@pytest.mark.requirement("RUN-4")
def test_an_open_data_folder_and_a_readable_key_are_two_problems(patient: Patient) -> None:
    assert doctor.look_at_privacy(patient).problems == ()

    patient.places.data.chmod(0o755)
    (patient.places.keys / "llm.key").chmod(0o644)

    assert [problem.cure.split(";")[0] for problem in doctor.look_at_privacy(patient).problems] == [
        f"chmod 700 {patient.places.data}",
        f"chmod 600 {patient.places.keys / 'llm.key'}",
    ]


@pytest.mark.requirement("RUN-4")
def test_a_record_of_a_mesh_that_was_killed_is_a_problem(patient: Patient) -> None:
    assert doctor.look_at_record(patient).problems == ()
    record.write(patient.places, record.Record(pid=4711, run="", bind="", port=1, model="m", rooms={}))

    assert "process 4711, which is gone" in told(doctor.look_at_record(patient))


@pytest.mark.requirement("RUN-4")
def test_an_envoy_that_cannot_run_is_a_problem(patient: Patient, tmp_path: Path) -> None:
    settings = MeshSettings(envoy_binary=tmp_path / "none")

    found = doctor.look_at_envoy(Patient(settings=settings, places=patient.places, clock=patient.clock))

    assert "MESH_ENVOY_BINARY" in told(found)


@pytest.mark.requirement("RUN-4")
def test_an_envoy_of_another_version_is_a_problem(patient: Patient, tmp_path: Path) -> None:
    other = tmp_path / "envoy"
    other.write_text("#!/bin/sh\necho 'envoy  version: 0123/1.33.2/Clean/RELEASE/BoringSSL'\n")
    other.chmod(0o700)

    found = doctor.look_at_envoy(
        Patient(settings=MeshSettings(envoy_binary=other), places=patient.places, clock=patient.clock)
    )

    assert found.fact == "1.33.2"
    assert "written for 1.40" in told(found)


@pytest.mark.requirement("RUN-4")
@pytest.mark.parametrize(("version", "warned"), [((3, 40, 1), True), ((3, 51, 3), False)])
def test_an_sqlite_that_can_lose_commits_is_told_of(
    patient: Patient, monkeypatch: pytest.MonkeyPatch, version: tuple[int, int, int], warned: bool
) -> None:
    monkeypatch.setattr("sqlite3.sqlite_version_info", version)

    assert ("can lose commits" in doctor.look_at_sqlite(patient).fact) is warned
