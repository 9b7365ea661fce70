"""Import structlog without rich, for processes that must start at once.

structlog imports rich, where it is installed, to draw tracebacks on a terminal. In a broker nobody draws any,
and the import is a tenth of its start.
"""

from __future__ import annotations

import importlib
import sys
from typing import Any, cast


def import_structlog_without_rich() -> None:
    """Do nothing if either is imported already."""
    if "structlog" in sys.modules or "rich" in sys.modules:
        return
    modules = cast("dict[str, Any]", sys.modules)
    modules["rich"] = None  # a module that cannot be imported
    try:
        importlib.import_module("structlog")
    finally:
        del modules["rich"]
