"""Every way in which a check can be told, or led, to connect somewhere."""

from __future__ import annotations

from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from tests.policy.spellings import IN_HOSTS, IN_URLS, REBINDING, SPELLED, bracketed, names

Declared: TypeAlias = dict[str, Any]
STATUSES = (301, 302, 303, 307, 308)
TIMEOUT = "2s"


@dataclass(frozen=True)
class Places:
    """The ports of what is honest, on loopback, and the socket of the same server."""

    home: int
    http_proxy: int
    socks_proxy: int
    socket: str

    def leading_to(self, location: str, *, host: str = "127.0.0.1", status: int = 302) -> str:
        """A url whose answer is that redirect."""
        asked = urlsafe_b64encode(f"{status} {location}".encode()).decode()
        return f"http://{host}:{self.home}/{asked}"


@dataclass(frozen=True)
class Case:
    """``declared`` is the check without its id."""

    route: str
    spelling: str
    declared: Declared


Route: TypeAlias = Callable[[Places, str], Declared]


def _http(url: str, **more: Any) -> Declared:
    return {"type": "http", "url": url, **more}


def _by_url(**more: Any) -> Route:
    return lambda _, url: _http(url, **more)


def _led(status: int, **more: Any) -> Route:
    return lambda places, url: _http(places.leading_to(url, status=status), **more)


def _led_twice(places: Places, url: str) -> Declared:
    return _http(places.leading_to(places.leading_to(url, host="127.0.0.2")))


def _led_out_and_home(places: Places, url: str) -> Declared:
    return _http(places.leading_to(places.leading_to(places.leading_to(url), host="127.0.0.2")))


def _led_over_http_proxy(places: Places, url: str) -> Declared:
    return _http(places.leading_to(url), proxy=f"http://127.0.0.1:{places.http_proxy}")


def _led_over_socks(scheme: str) -> Route:
    return lambda places, url: _http(
        places.leading_to(url), proxy=f"{scheme}://127.0.0.1:{places.socks_proxy}"
    )


def _led_from_a_socket(places: Places, url: str) -> Declared:
    return _http(places.leading_to(url), unix_socket=places.socket)


URL_ROUTES: Mapping[str, Route] = {
    "url": _by_url(),
    "url, connection kept": _by_url(connection="reuse"),
    "url, from a source address": _by_url(source_address="127.0.0.1"),
    **{f"redirect {status}": _led(status) for status in STATUSES},
    "redirect, POST": _led(302, method="POST"),
    "redirect, connection kept": _led(302, connection="reuse"),
    "redirect, from a source address": _led(302, source_address="127.0.0.1"),
    "redirect, link-local allowed at home": _led(302, allow_link_local=True),
    "second redirect": _led_twice,
    "third redirect, by home": _led_out_and_home,
    "redirect, socks5": _led_over_socks("socks5"),
    "redirect, over a unix socket": _led_from_a_socket,
    "url, socks5": lambda places, url: _http(url, proxy=f"socks5://127.0.0.1:{places.socks_proxy}"),
}
"""From a url to a check."""
LITERAL_URL_ROUTES: Mapping[str, Route] = {
    "url, http proxy": lambda places, url: _http(url, proxy=f"http://127.0.0.1:{places.http_proxy}"),
    "url, socks5h": lambda places, url: _http(url, proxy=f"socks5h://127.0.0.1:{places.socks_proxy}"),
    "redirect, http proxy": _led_over_http_proxy,
    "redirect, socks5h": _led_over_socks("socks5h"),
}
"""The same where the proxy looks names up, so that where those lead is known to it alone."""
HOST_ROUTES: Mapping[str, Route] = {
    "https url": lambda _, host: _http(f"https://{bracketed(host)}/"),
    "https url, HTTP/2": lambda _, host: _http(f"https://{bracketed(host)}/", http2=True),
    "proxy, http": lambda _, host: _http("http://127.0.0.1/", proxy=f"http://{bracketed(host)}:3128"),
    "proxy, CONNECT": lambda _, host: _http("https://127.0.0.1/", proxy=f"http://{bracketed(host)}:3128"),
    "proxy, https": lambda _, host: _http("http://127.0.0.1/", proxy=f"https://{bracketed(host)}:3128"),
    "proxy, socks5": lambda _, host: _http("http://127.0.0.1/", proxy=f"socks5://{bracketed(host)}:1080"),
    "proxy, socks5h": lambda _, host: _http("http://127.0.0.1/", proxy=f"socks5h://{bracketed(host)}:1080"),
    "tcp": lambda _, host: {"type": "tcp", "host": host, "port": 80},
    "tcp, from a source address": lambda _, host: {
        "type": "tcp", "host": host, "port": 80, "source_address": "127.0.0.1",
    },
    "tls": lambda _, host: {"type": "tls", "host": host},
    "icmp": lambda _, host: {"type": "icmp", "host": host},
    "icmp, from a source address": lambda _, host: {
        "type": "icmp", "host": host, "source_address": "127.0.0.1",
    },
    "dns, udp": lambda _, host: _dns(f"{bracketed(host)}:5353", "udp"),
    "dns, tcp": lambda _, host: _dns(f"{bracketed(host)}:5353", "tcp"),
    "dns, tls": lambda _, host: _dns(bracketed(host), "tls"),
    "dns, https": lambda _, host: _dns(f"https://{bracketed(host)}/dns-query", "https"),
    "resolver": lambda _, host: {
        "type": "tcp", "host": "shop.test", "port": 80, "resolver": f"{bracketed(host)}:5353",
    },
    "resolver, from a source address": lambda _, host: _http(
        "http://shop.test/", resolver=bracketed(host), source_address="127.0.0.1"
    ),
}  # fmt: skip
LITERAL_HOST_ROUTES: Mapping[str, Route] = {
    "https url, http proxy": lambda places, host: _http(
        f"https://{bracketed(host)}/", proxy=f"http://127.0.0.1:{places.http_proxy}"
    ),
}


def _dns(server: str, transport: str) -> Declared:
    return {"type": "dns", "name": "shop.test", "server": server, "transport": transport}


def for_host(places: Places, host: str, *, literal: bool) -> Iterator[Case]:
    """Everything that can be made of one host, an address in whatever spelling or a name."""
    by_url = {**URL_ROUTES, **(LITERAL_URL_ROUTES if literal else {})}
    by_host = {**HOST_ROUTES, **(LITERAL_HOST_ROUTES if literal else {})}
    for name, route in by_url.items():
        yield Case(name, host, route(places, f"http://{bracketed(host)}/"))
    for name, route in by_host.items():
        yield Case(name, host, route(places, host))


def cases(places: Places) -> list[Case]:
    found = [case for host in SPELLED for case in for_host(places, host, literal=True)]
    for name in [*(each.name for each in names()), IN_HOSTS]:
        found += for_host(places, name, literal=False)
    for url in IN_URLS:
        for route, make in {**URL_ROUTES, **LITERAL_URL_ROUTES}.items():
            found.append(Case(route, url, make(places, url)))
    return found


def rebound(places: Places) -> list[Case]:
    """A name that leads home when it is asked for the first time, and astray from then on."""
    asked = places.leading_to(f"http://{REBINDING.name}:80/again")
    at_first = asked.replace("127.0.0.1", REBINDING.name)
    return [
        Case("rebinding between redirects", REBINDING.name, _http(at_first)),
        Case("rebinding between redirects, kept", REBINDING.name, _http(at_first, connection="reuse")),
        Case("rebinding between probes", REBINDING.name, _http(f"http://{REBINDING.name}:{places.home}/")),
    ]
