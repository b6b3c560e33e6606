"""``python -m tests.fuzz web --n 1000``: one module of this folder each, with arguments of its own."""

from __future__ import annotations

import sys
from importlib import import_module


def main() -> int:
    match sys.argv[1:]:
        case [("configs" | "web") as what, *arguments]:
            code: int = import_module(f"tests.fuzz.{what}").main(arguments)
            return code
    print("python -m tests.fuzz configs|web [--n N] [--seed S]", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
