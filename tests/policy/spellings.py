"""How an address that nobody may reach can be written, or be led to by a name."""

from __future__ import annotations

from dataclasses import dataclass

ADDRESSES_4 = (
    "169.254.169.254",
    "169.254.170.2",
    "169.254.1.1",
    "100.100.100.200",
    "168.63.129.16",
    "192.0.0.192",
)
ADDRESSES_6 = (
    "fd00:ec2::254",
    "fd00:ec2::23",
    "fd20:ce::254",
    "fd00:42::42",
    "::ffff:169.254.169.254",
    "::ffff:100.100.100.200",
    "::169.254.169.254",
    "::ffff:0:169.254.169.254",
    "64:ff9b::169.254.169.254",
    "64:ff9b:1::169.254.169.254",
    "64:ff9b:1:a9fe:a9:fe00::",
    "64:ff9b:1:a9:fe:a9fe::",
    "64:ff9b:1:0:a9:fea9:fe00:0",
    "2002:a9fe:a9fe::1",
    "2001:0:a9fe:a9fe::1",
    "2001:0:102:304::5601:5601",
    "2001:db8::5efe:a9fe:a9fe",
    "2001:db8::200:5efe:a9fe:a9fe",
)
"""Without link-local ones, which nobody can connect to but over a named interface."""
LINK_LOCAL_6 = ("fe80::1", "fe80::1%lo", "fe80::1%1", "febf::ffff", "fe80::a9fe:a9fe")
WRITTEN = (
    "169.254.169.254.",
    "169.254.169.254..",
    "169.254.43518",
    "169.16689662",
    "2852039166",
    "02852039166",
    "0xa9fea9fe",
    "0xA9FEA9FE",
    "0Xa9fea9fe",
    "0x0000a9fea9fe",
    "025177524776",
    "0251.0376.0251.0376",
    "0xa9.0xfe.0xa9.0xfe",
    "0xa9.254.0251.0xfe",
    "0xa9fe.0xa9fe",
    "169.254.0xa9fe",
    "00169.00254.00169.00254",
    "169.254.169.0376",
    "169.254.169.254%lo",
    "169.254.169%2e254",
    "%31%36%39.254.169.254",
    "169%E3%80%82254%E3%80%82169%E3%80%82254",
    "１６９.254.169.254",
    "１６９．２５４．１６９．２５４",
    "169。254。169。254",
    "169｡254｡169｡254",
    "①⑥⑨.②⑤④.①⑥⑨.②⑤④",
    "𝟏𝟔𝟗.𝟐𝟓𝟒.𝟏𝟔𝟗.𝟐𝟓𝟒",
    "۱۶۹.۲۵۴.۱۶۹.۲۵۴",
    "1\u00ad69.254.169.254",
    "169.254.169.254\u200b",
    "0:0:0:0:0:ffff:a9fe:a9fe",
    "::ffff:a9fe:a9fe",
    "::FFFF:A9FE:A9FE",
    "0000:0000:0000:0000:0000:FFFF:169.254.169.254",
    "::a9fe:a9fe",
    "64:ff9b::a9fe:a9fe",
    "2002:A9FE:A9FE:0:0:0:0:0",
    "fd00:0ec2:0:0:0:0:0:254",
    "FD00:EC2::254",
)
"""The same in other words: decimal, octal, hexadecimal, short, padded, percent-encoded, in other digits and dots."""
IN_URLS = (
    "http://127.0.0.1@169.254.169.254/",
    "http://127.0.0.1:80@169.254.169.254/",
    "http://127.0.0.1%40169.254.169.254/",
    "http://a@127.0.0.1@169.254.169.254/",
    "http://127.0.0.1\\@169.254.169.254/",
    "http://169.254.169.254\\@127.0.0.1/",
    "http://169.254.169.254#@127.0.0.1/",
    "http://169.254.169.254?@127.0.0.1/",
    "http://[169.254.169.254]/",
    "http://[::ffff:169.254.169.254%25lo]/",
    "http://[fe80::1%25lo]/",
    "http://169.254.169.254:80:80/",
    "http:169.254.169.254/",
    "http:/169.254.169.254/",
    "http:///169.254.169.254/",
    "http:\\\\169.254.169.254\\",
    "//169.254.169.254/",
    "///169.254.169.254/",
    "\\\\169.254.169.254\\",
    "HTTP://169.254.169.254",
    " http://169.254.169.254/",
    "http://169.254.\t169.254/",
    "file://169.254.169.254/etc/passwd",
    "ftp://169.254.169.254/",
    "gopher://169.254.169.254:80/_GET%20/",
    "ws://169.254.169.254/",
    "http+unix://%2Frun%2Fcanary.sock/",
    "unix:///run/canary.sock",
)
"""Whole URLs, some of which others read otherwise than we do."""


@dataclass(frozen=True)
class Name:
    """A name and what DNS says of it each time it is asked: addresses, or a CNAME first."""

    name: str
    answers: tuple[tuple[str, ...], ...]
    """One tuple a question; the last holds for all that follow."""
    alias: str = ""


def names() -> list[Name]:
    found = [
        Name(f"to-{number}.evil.test", ((address,),))
        for number, address in enumerate(ADDRESSES_4 + ADDRESSES_6)
    ]
    forbidden, good = "169.254.169.254", "127.0.0.1"
    return [
        *found,
        Name("alias.evil.test", ((forbidden,),), alias="metadata.evil.test"),
        Name("several.evil.test", ((forbidden, good),)),
        Name("xn--bcher-kva.evil.test", ((forbidden,),)),
        Name("169.254.169.254.evil.test", ((forbidden,),)),
    ]


REBINDING = Name("rebinding.evil.test", (("127.0.0.1",), ("169.254.169.254",)))
IN_HOSTS = "metadata.in-hosts.test"
LITERALS = ADDRESSES_4 + ADDRESSES_6 + LINK_LOCAL_6
SPELLED = LITERALS + WRITTEN


def bracketed(host: str) -> str:
    """As it stands in a URL."""
    return f"[{host.replace('%', '%25')}]" if ":" in host else host


def count() -> int:
    return len(SPELLED) + len(IN_URLS) + len(names()) + 2
