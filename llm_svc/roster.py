"""Which servers and models an operator has configured: settings, the bundled table, and ``models.toml``."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from enum import Enum
from pathlib import Path

import msgspec

from llm_svc.errors import RosterInvalid
from llm_svc.providers.provider import Model, Price

FILE = "models.toml"
_BUNDLED = Path(__file__).with_name("remote_models.toml")
_MICRO = 1_000_000


class Wire(Enum):
    """What a server speaks."""

    OPENAI = "openai"
    ANTHROPIC = "anthropic"
    COHERE = "cohere"
    PYDANTIC_AI = "pydantic-ai"


class PriceRow(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """USD for a million tokens."""

    input: float
    output: float
    looked_up: date = date(1970, 1, 1)
    source: str = ""
    cached: float | None = None
    stored: float | None = None
    above: int = 0
    beyond: PriceRow | None = None


class ModelRow(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One model of one server. ``sampling``, ``stops`` and ``tools_effort`` are explained at Model."""

    id: str
    server: str
    context_tokens: int
    output_tokens: int
    display_name: str = ""
    vision: bool = False
    tools: bool = True
    json_schema: bool = True
    sampling: bool = True
    stops: int = 8
    tools_effort: str = ""
    price: PriceRow | None = None


class ServerRow(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One further server. ``local`` says that it runs on the machines of the mesh."""

    name: str
    wire: Wire
    base_url: str = ""
    local: bool = False
    key_file: str = ""


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    server: tuple[ServerRow, ...] = ()
    model: tuple[ModelRow, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Roster:
    """Rows of servers and models; of two rows for one model the later one stands."""

    servers: tuple[ServerRow, ...] = ()
    rows: tuple[ModelRow, ...] = ()

    def models(self, server: str, *, local: bool = False, only: Iterable[str] = ()) -> tuple[Model, ...]:
        """The models of one server, in order; ``only`` those, where any are named."""
        named = tuple(only)
        rows = {row.id: row for row in self.rows if row.server == server}
        return tuple(_model(row, local=local) for row in rows.values() if not named or row.id in named)


def bundled() -> Roster:
    """What is known of the large providers."""
    return _roster(_BUNDLED)


def read(data_dir: Path) -> Roster:
    """The bundled rows, then those of the operator's file. Raises RosterInvalid when it cannot be used."""
    known, file = bundled(), data_dir / FILE
    if not file.exists():
        return known
    own = _roster(file)
    servers = {server.name for server in (*known.servers, *own.servers)} | _STANDING
    for row in own.rows:
        if row.server not in servers:
            raise RosterInvalid(
                f"{file}: model {row.id!r} names the server {row.server!r}, which is not there"
            )
    return Roster(servers=own.servers, rows=(*known.rows, *own.rows))


_STANDING = frozenset({"openai", "anthropic", "cohere"})  # configured by settings


def _roster(file: Path) -> Roster:
    try:
        content = msgspec.convert(tomllib.loads(file.read_text()), _File)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, msgspec.ValidationError) as wrong:
        raise RosterInvalid(f"{file}: {wrong}") from wrong
    names = [server.name for server in content.server]
    for name in names:
        if name in _STANDING or names.count(name) > 1:
            raise RosterInvalid(f"{file}: two servers are called {name!r}")
    for row in content.model:
        if not 0 < row.output_tokens <= row.context_tokens:
            raise RosterInvalid(f"{file}: model {row.id!r} writes more than it reads, or nothing")
    return Roster(servers=content.server, rows=content.model)


def _model(row: ModelRow, *, local: bool) -> Model:
    return Model(
        id=row.id,
        display_name=row.display_name or row.id,
        provider=row.server,
        context_tokens=row.context_tokens,
        output_tokens=row.output_tokens,
        vision=row.vision,
        tools=row.tools,
        json_schema=row.json_schema,
        sampling=row.sampling,
        stops=row.stops,
        tools_effort=row.tools_effort,
        local=local,
        price=_price(row.price, row.price.looked_up) if row.price else None,
    )


def _price(row: PriceRow, looked_up: date) -> Price:
    return Price(
        input=round(row.input * _MICRO),
        output=round(row.output * _MICRO),
        cached=None if row.cached is None else round(row.cached * _MICRO),
        stored=None if row.stored is None else round(row.stored * _MICRO),
        looked_up=int(datetime(looked_up.year, looked_up.month, looked_up.day, tzinfo=UTC).timestamp()),
        above=row.above,
        beyond=_price(row.beyond, looked_up) if row.beyond else None,
    )


def names(text: str) -> tuple[str, ...]:
    """The names of a setting that lists some, separated by commas."""
    return tuple(name.strip() for name in text.split(",") if name.strip())
