"""Texts that try to become markup, metrics, log lines or responses wherever they are shown."""

from __future__ import annotations

from urllib.parse import quote

MARKUP = (
    "<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "'><svg onload=alert(1)>", "</td></tr></table><script>x</script>", "</title><script>x</script>",
    "</style><script>x</script>", "<!--", "--><b>", "]]><b>", "<b>bold</b>", "<ScRiPt src=//evil.test></sCrIpT>", "<img/src=x/onerror=alert`1`>", "<a href=//evil.test>x</a>",
    "<base href=//evil.test>", "<meta http-equiv=refresh content=0;url=//evil.test>", "<form action=//evil.test><input name=x>", "<iframe srcdoc='<b>'>", "<style>*{display:none}</style>",
    "<link rel=stylesheet href=//evil.test>", '" onmouseover="alert(1)', "' onfocus='alert(1)' autofocus='", "` onload=`alert(1)", "<svg><animate onbegin=alert(1)>", "<math><mi//xlink:href='data:x'>",
    "javascript:alert(1)", "JaVaScRiPt:alert(1)", "java\tscript:alert(1)", "data:text/html,<script>x</script>", "http://x\" onclick=\"alert(1)", "https://x/'><b>", "https://user:pass@evil.test/<b>",
    "&lt;b&gt;", "&#60;b&#62;", "&#x3c;b&#x3e;", "&amp;lt;b>", "＜script＞", "<b\x00>", "\x00<b>", "<\x0bb>", "<b\u2028>", "\u202e<b>gnp.exe", "{{7*7}}", "${7*7}", "{%raw%}", "%3Cb%3E", "+ADw-b+AD4-",
)  # fmt: skip
EXPOSITION = (
    "\nfake_metric 1\n", '"} 1\nfake_metric{a="', "\n# HELP watchbill_fake x\n# TYPE watchbill_fake counter\n", "\n# EOF\n", "\\", "\\\\", "\\n", '\\"', '"', '""', "a\\", 'a"b\\c\nd', '",fake="1',
    '"} 1 # {trace_id="x"} 1', "} 1", "{", "le", 'le="+Inf"', "\r\n", "\r", "\t", "\x1b[31mred\x1b[0m", "\x7f", "\x85", "\x9b1m", "\u2029", "\ufeff", "\ufffe", "e\u0301\u0301\u0301", "💥", "\U0010ffff", " ", "", " x ",
    "NaN", "+Inf", "None", "x" * 900, "é" * 500, "<b>" * 300, "…", "\u0000\u0001\u0002", '\n{"level":"error","event":"forged"}\n', "\nTraceback (most recent call last):\n", "\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", "%s%n%d", "{0.__class__}", "\u200b\u200d",
)  # fmt: skip


def corpus(*, full: bool) -> list[str]:
    """Each text; in full also beside the place where long texts are cut, in capitals, and in escapes."""
    plain = [*MARKUP, *EXPOSITION]
    if not full:
        return plain[::4]
    cut = ["x" * (length - len(text) // 2) + text for text in MARKUP for length in (197, 297)]
    return [*plain, *cut, *(quote(text) for text in plain[:20]), *(text.upper() for text in MARKUP[:20])]
