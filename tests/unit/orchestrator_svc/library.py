"""A few cities and articles in the form of the real data sets; the articles are our own words."""

from __future__ import annotations

from orchestrator_svc.tools.places.gazetteer import City, Named
from orchestrator_svc.tools.reference.encyclopedia import Article, Passage


def _city(
    name: str,
    latitude: float,
    longitude: float,
    country: str,
    people: int,
    zone: str,
    *,
    state: str = "",
    also: str = "",
) -> City:
    return City(
        name=name,
        latitude=latitude,
        longitude=longitude,
        countrycode=country,
        population=people,
        timezone=zone,
        admin1code=state,
        alternatenames=also.split(",") if also else [],
    )


_ALL = (
    _city("Lisbon", 38.7167, -9.1333, "PT", 517_802, "Europe/Lisbon", also="Lisboa,Lissabon"),
    _city("Porto", 41.15, -8.61, "PT", 249_633, "Europe/Lisbon", also="Oporto"),
    _city("Bordeaux", 44.84, -0.58, "FR", 260_958, "Europe/Paris", also="Porto,Burdeos"),
    _city("Paris", 48.8534, 2.3488, "FR", 2_138_551, "Europe/Paris", also="Parigi"),
    _city("Paris", 33.6609, -95.5555, "US", 24_782, "America/Chicago", state="TX"),
    _city("Rome", 41.8919, 12.5113, "IT", 2_318_895, "Europe/Rome", also="Roma"),
    _city("Oslo", 59.9127, 10.7461, "NO", 580_000, "Europe/Oslo", also="Christiania"),
    _city("Munich", 48.1374, 11.5755, "DE", 1_260_391, "Europe/Berlin", also="München,Monaco di Baviera"),
)
CITIES = {str(at): city for at, city in enumerate(_ALL)}
COUNTRIES = {
    "PT": Named(name="Portugal"),
    "FR": Named(name="France"),
    "US": Named(name="United States"),
    "IT": Named(name="Italy"),
    "NO": Named(name="Norway"),
    "DE": Named(name="Germany"),
}
STATES = {"TX": Named(name="Texas")}


def _article(
    title: str, summary: str, *, language: str = "en", passages: tuple[Passage, ...] = ()
) -> Article:
    return Article(
        title=title,
        language=language,
        uri=f"https://{language}.wikipedia.org/wiki/{title}",
        source="Wikipedia, CC BY-SA 4.0",
        summary=summary,
        passages=passages,
    )


ARTICLES = (
    _article("Photosynthesis", "Plants make sugar out of light, water and air."),
    _article("Photosynthèse", "Photosynthesis : les plantes font du sucre avec la lumière.", language="fr"),
    _article("Moss", "Moss is a small plant without flowers."),
    _article(
        "Norway",
        "Norway is a country in the north of Europe.",
        passages=(
            Passage(heading="Introduction, Background", body="Norway is a country in the north of Europe."),
            Passage(heading="Geography, Climate", body="Mild on the coast, cold inland."),
            Passage(heading="People, Population", body="5.5 million."),
            *(Passage(heading=f"Economy, Figure {each}", body=f"Figure number {each}.") for each in range(8)),
        ),
    ),
)
