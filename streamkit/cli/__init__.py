"""The `streamkit` command. `main` is its entry point; nothing else is imported before it is needed."""

from __future__ import annotations

import sys
from typing import NoReturn


def main() -> NoReturn:
    from streamkit.cli.frame import run

    sys.exit(run(sys.argv[1:]))
