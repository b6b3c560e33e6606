"""What a stranger sent, read as text and held against what is expected of it.

Pure and synchronous: whoever calls it decides where it may take its time. Patterns and JSON take up to 7 us a byte.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from watchbill.domain.expectations import (
    DnsAnswers,
    HttpExpect,
    ResponseMatch,
    answer_failures,
    body_failures,
    header_failures,
)
from watchbill.domain.results import Failure, Reason
from watchbill.domain.rules import TextMatch

# What a target names is looked up among Python's codecs, some of which take quadratic time or are not for text.
_CHARSETS = re.compile(
    r"utf-?(8|16|16-?le|16-?be|32)|(us-)?ascii|iso-8859-(1|2|3|4|5|6|7|8|9|10|11|13|14|15|16)|latin-?1"
    r"|windows-125[0-8]|koi8-[ru]|shift_jis|euc-(jp|kr)|iso-2022-(jp|kr)|gbk|gb2312|gb18030|big5",
    re.IGNORECASE,
)


def judge_body(content: bytes, expect: HttpExpect, charset: str) -> list[Failure]:
    """Of a whole body; ``charset`` as the target named it."""
    text = content.decode(charset if _CHARSETS.fullmatch(charset) else "utf-8", errors="replace")
    return body_failures(expect, text, truncated=False, limit=len(content))


def judge_headers(
    _: bytes, rules: Mapping[str, TextMatch], values: Mapping[str, Sequence[str]]
) -> list[Failure]:
    return header_failures(rules, values)


def judge_answers(_: bytes, rules: DnsAnswers, texts: Sequence[str]) -> list[Failure]:
    return answer_failures(rules, texts)


def judge_response(content: bytes, rule: ResponseMatch) -> list[Failure]:
    return rule.failures(content.decode("utf-8", errors="replace"), of="response", reason=Reason.BODY)
