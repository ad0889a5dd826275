"""A URL, taken apart once: what is checked is what is connected to."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from ipaddress import ip_address

import httpx

from orchestrator_svc.egress.failures import NoAddress, Refused

WEB_PORTS = frozenset({80, 443, 8080, 8443})
_LONGEST = 2_048
_HOST = re.compile(r"(?!.*\.\.)[a-z0-9]([a-z0-9._-]{0,251}[a-z0-9])?\.?")
_UNSAFE = re.compile(r"[\x00-\x20\x7f-\xa0\\]")
_INNER = re.compile(
    r"(.+\.)?(localhost|local|internal|intranet|lan|home|corp|private|test|invalid|example|onion|home\.arpa)\.?"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """Where a request goes. `path` holds the query too."""

    scheme: str
    host: str
    port: int
    path: str

    @property
    def url(self) -> str:
        """The whole, without what a browser would keep to itself."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        shown = "" if self.port == {"http": 80, "https": 443}[self.scheme] else f":{self.port}"
        return f"{self.scheme}://{host}{shown}{self.path}"

    @property
    def origin(self) -> tuple[str, str, int]:
        """Scheme, host and port."""
        return self.scheme, self.host, self.port


def target(url: str, *, ports: Collection[int] | None = WEB_PORTS, inner_names: bool = False) -> Target:
    """Take a URL apart. Raises Refused for whatever is not plain http or https to a plain host.

    `ports` None allows any; `inner_names` allows names that only a local network knows.
    """
    if len(url) > _LONGEST or _UNSAFE.search(url):
        raise NoAddress("the address is too long or holds characters that no address has")
    try:
        parsed = httpx.URL(url)
        host = parsed.raw_host.decode("ascii").lower()
    except (httpx.InvalidURL, UnicodeError, ValueError) as error:
        raise NoAddress("this is no address of the web") from error
    if not parsed.scheme:
        raise NoAddress("it must begin with http:// or https://")
    if parsed.scheme not in ("http", "https"):
        raise Refused("only http and https are followed")
    if parsed.userinfo or "@" in parsed.netloc.decode("ascii", "replace"):
        raise Refused("addresses with a user name are not followed")
    port = parsed.port if parsed.port is not None else {"http": 80, "https": 443}[parsed.scheme]
    if port == 0 or (ports is not None and port not in ports):
        raise Refused(f"port {port} is not one of the web's")
    _check_host(host, inner_names)
    path = parsed.raw_path.decode("ascii") or "/"
    return Target(scheme=parsed.scheme, host=host, port=port, path=path)


def joined(base: Target, location: str, *, ports: Collection[int] | None = WEB_PORTS) -> Target:
    """Where a redirect leads. Raises Refused, also from https to http."""
    if _UNSAFE.search(location):
        raise Refused("the redirect holds characters that no address has")
    try:
        url = str(httpx.URL(base.url).join(location))
    except (httpx.InvalidURL, ValueError) as error:
        raise Refused("the redirect leads to no address of the web") from error
    led = target(url, ports=ports)
    if base.scheme == "https" and led.scheme == "http":
        raise Refused("the redirect leaves the encrypted connection")
    return led


def _check_host(host: str, inner_names: bool) -> None:
    if ":" in host:
        try:
            ip_address(host)
        except ValueError as error:
            raise Refused("this is no address of the web") from error
        return
    if not _HOST.fullmatch(host):
        raise NoAddress("this is no name of a host")
    if not inner_names and _INNER.fullmatch(host):
        raise Refused("names of private networks are not followed")
