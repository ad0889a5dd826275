"""URLs that somebody could name to reach what is private: 120 and more forms, and the names they use."""

from __future__ import annotations

from ipaddress import ip_address

from orchestrator_svc.egress.addresses import Address

PUBLIC = "93.184.215.14"  # stands for any public host; bound to `lo` where the test has a network of its own
PUBLIC_6 = "2606:2800:21f:cb07:6820:80da:af6b:8b2c"

# Names and what a hostile resolver says of them: one answer for each time it is asked, the last for good.
NAMES: dict[str, tuple[tuple[str, ...], ...]] = {
    "good.org": ((PUBLIC,),),
    "loop.attacker.org": (("127.0.0.1",),),
    "loop6.attacker.org": (("::1",),),
    "ten.attacker.org": (("10.0.0.5",),),
    "cname-to-metadata.attacker.org": (("169.254.169.254",),),
    "mixed.attacker.org": ((PUBLIC, "192.168.0.1"),),
    "mixed6.attacker.org": ((PUBLIC, "fd00::1"),),
    "mapped.attacker.org": (("::ffff:10.0.0.5",),),
    "nat64.attacker.org": (("64:ff9b::a00:5",),),
    "sixtofour.attacker.org": (("2002:a00:5::",),),
    "rebinding.attacker.org": ((PUBLIC,), ("127.0.0.1",)),
    "zero.attacker.org": (("0.0.0.0",),),
}

_HOSTS_4 = (
    *("127.0.0.1", "127.1", "127.0.1", "127.8.8.8", "0", "0.0.0.0", "0x7f000001", "0x7f.1", "0177.1"),
    *("0177.0.0.1", "2130706433", "017700000001", "0x7f.0x0.0x0.0x1", "127.0.0.1."),
    *("１２７.０.０.１", "①②⑦.⓪.⓪.①", "127。0。0。1"),
    *("10.0.0.5", "10.255.255.255", "172.16.0.1", "172.31.255.254", "192.168.0.1", "192.168.255.255"),
    *("169.254.169.254", "169.254.170.2", "0xa9fea9fe", "2852039166", "0251.0376.0251.0376"),
    *("100.100.100.200", "100.64.0.1", "100.127.255.254", "192.0.0.1", "192.0.0.192", "192.0.2.1"),
    *("192.88.99.1", "198.18.0.1", "198.19.255.254", "198.51.100.7", "203.0.113.9"),
    *("224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255"),
)
_HOSTS_6 = (
    *("::1", "::", "0:0:0:0:0:0:0:1", "::ffff:127.0.0.1", "::ffff:7f00:1", "::127.0.0.1", "::7f00:1"),
    *("::ffff:0:127.0.0.1", "64:ff9b::7f00:1", "64:ff9b::127.0.0.1", "64:ff9b::a9fe:a9fe"),
    *("64:ff9b:1::1", "64:ff9b:1:7f00:0:100::", "2002:7f00:1::", "2002:a00:5::1", "2001:0:7f00:1::"),
    *("2001::1", "2001:db8::1", "2001:10::1", "2001:20::1", "fe80::1", "fe80::1%25lo", "fe80::1%lo"),
    *("fc00::1", "fd00:ec2::254", "fdff::1", "fec0::1", "ff02::1", "ff05::2", "3fff::1", "5f00::1"),
    *("100::1", "4000::1", "::ffff:169.254.169.254", "::ffff:10.0.0.5", "::ffff:c0a8:1"),
)
_HOST_NAMES = (
    *("localhost", "localhost.", "LOCALHOST", "a.localhost", "ip6-localhost", "metadata"),
    *("metadata.google.internal", "metadata.google.internal.", "printer.local", "router.lan"),
    *("kubernetes.default.svc.cluster.local", "nas.home.arpa", "wiki.corp", "db.internal"),
)
FORMS: tuple[str, ...] = (
    *(f"http://{host}/" for host in _HOSTS_4),
    *(f"http://[{host}]/" for host in _HOSTS_6),
    *(f"https://{host}/" for host in _HOST_NAMES),
    *(f"http://{name}/" for name in NAMES if "rebinding" not in name and name != "good.org"),
    *("http://a@127.0.0.1/", "http://good.org@127.0.0.1/", "http://good.org:80@127.0.0.1/"),
    *("http://127.0.0.1#@good.org/", "http://127.0.0.1?@good.org/", "http://good.org\\@127.0.0.1/"),
    *("http://127.0.0.1\\.good.org/", "http://good.org%00@127.0.0.1/", "http://127.0.0.1%2f@good.org/"),
    *("http://127.0\n.0.1/", "http://127.0.\t0.1/", "http://\r\n127.0.0.1/", " http://127.0.0.1/"),
    *("http:///127.0.0.1/", "//127.0.0.1/", "http:127.0.0.1", "http:/127.0.0.1/", "127.0.0.1"),
    *("http://good.org:0/", "http://good.org:22/", "http://good.org:25/", "http://good.org:6379/"),
    *("http://good.org:5432/", "http://good.org:65536/", "http://good.org:-1/", "http://good.org:50051/"),
    *("file:///etc/passwd", "gopher://127.0.0.1/_x", "dict://127.0.0.1:11211/", "ftp://127.0.0.1/"),
    *("data:text/html,x", "jar:http://127.0.0.1!/x", "unix:/run/x.sock", "ws://127.0.0.1/"),
    *("http+unix://%2Frun%2Fx.sock/", "javascript:alert(1)", "blob:http://127.0.0.1/x", "view-source:x"),
    *("http://127.0.0.1:8080/", "https://[::1]:8443/", "http://[::1", "http://]/", "http://", "", "http://."),
    *("http://..org/", "http://-/", "http://ⅼocalhost/", "http://localhoſt/", "http://loc%61lhost/"),
    *("http://127%2e0%2e0%2e1/", "http://1.1.1.1&@127.0.0.1/", "http://good.org;@127.0.0.1/"),
    "http://" + "a" * 3_000 + ".org/",
)
# Where a public page's redirect may lead: one of each class, for each status that redirects.
REDIRECTED: tuple[str, ...] = (
    *("http://127.0.0.1/", "http://[::1]/", "http://169.254.169.254/latest/", "http://10.0.0.5:8080/"),
    *("http://loop.attacker.org/", "//127.0.0.1/", "http://2130706433/", "https://[fd00::1]/"),
    *("http://good.org:22/", "file:///etc/passwd", "http://good.org@127.0.0.1/", "http://localhost/"),
)
STATUSES = (301, 302, 303, 307, 308)


class HostileResolver:
    """Resolves `NAMES`, each answer once; any other host only when it is a spelling of a number."""

    def __init__(self) -> None:
        self._asked: dict[str, int] = {}

    async def __call__(self, host: str, port: int) -> tuple[Address, ...]:
        """The addresses. Raises OSError for a name nobody has."""
        from orchestrator_svc.egress.connector import resolve

        answers = NAMES.get(host.rstrip("."))
        if answers is None:
            return tuple(await resolve(host, port))
        turn = self._asked.get(host, 0)
        self._asked[host] = turn + 1
        return tuple(map(ip_address, answers[min(turn, len(answers) - 1)]))
