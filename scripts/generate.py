"""Write the generated files anew, or with --check say which are not current."""

import sys


def main() -> int:
    return 0


if __name__ == "__main__":
    sys.exit(main())
