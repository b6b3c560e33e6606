"""What commands reach for outside themselves. Tests hand in their own as ``obj``.

The exporter (its store, its web server) is imported only where it is used: half a second that ``validate`` and
``plan`` need not wait.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from watchbill import config
from watchbill.domain.config import LoadedConfig
from watchbill.domain.results import Result

if TYPE_CHECKING:
    from watchbill.serve import Options


def _execute(loaded: LoadedConfig, ids: Sequence[str]) -> Iterable[Result]:
    from watchbill.serve import execute_once  # noqa: PLC0415 - see above

    return execute_once(loaded, ids)


def _serve(options: Options) -> int:
    from watchbill.serve import run  # noqa: PLC0415 - see above

    return run(options)


@dataclass(frozen=True, slots=True)
class Outside:
    """``now``: wall time in microseconds since the epoch. ``wait``: sleep so many seconds."""

    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)
    execute: Callable[[LoadedConfig, Sequence[str]], Iterable[Result]] = _execute
    serve: Callable[[Options], int] = _serve
    now: Callable[[], int] = lambda: time.time_ns() // 1000
    wait: Callable[[float], None] = time.sleep
    nonce: Callable[[], bytes] = lambda: secrets.token_bytes(16)

    def load(self, path: str, *, resolve_secrets: bool = True) -> LoadedConfig:
        """:raises ConfigError: with every mistake at once."""
        return config.load(path, environ=self.environ, resolve_secrets=resolve_secrets)

    def load_web(self, path: str) -> None:
        """Read a web configuration as the exporter would, its certificates too.

        :raises ConfigError: with every mistake at once.
        """
        from watchbill.rereading import first  # noqa: PLC0415 - see above
        from watchbill.serve import offload  # noqa: PLC0415 - see above

        first(path, now=self.now, offload=offload)
