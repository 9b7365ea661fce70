"""From the words `shop.py`, `shop:app` or `apps/shop.py:app` to the `App` that they mean.

Without a name after the colon, the module's only `App` is meant. The current directory is on the import path.
"""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import sys
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from streamkit.errors import NotFoundError, StreamkitError, UsageError
from streamkit.processing.app import App
from streamkit.processing.importing import importing
from streamkit.users_code import users_line


def load_app(words: str) -> App:
    """The app, or an error that says which word was wrong."""
    place, _, attribute = words.partition(":")
    module = _load_module(place)
    if attribute:
        found = getattr(module, attribute, None)
        if not isinstance(found, App):
            raise NotFoundError(f"{place} has no App named {attribute!r}", hint=_suggest(place, module))
        return found
    apps = _apps(module)
    if len(apps) != 1:
        what = "no App" if not apps else f"{len(apps)} Apps: {', '.join(apps)}"
        raise NotFoundError(f"{place} defines {what}", hint=_suggest(place, module))
    return next(iter(apps.values()))


def _apps(module: ModuleType) -> dict[str, App]:
    """The module's apps by their first name."""
    found: dict[int, tuple[str, App]] = {}
    for name, value in vars(module).items():
        if isinstance(value, App):
            found.setdefault(id(value), (name, value))
    return dict(found.values())


def _suggest(place: str, module: ModuleType) -> str:
    apps = _apps(module)
    return f"streamkit worker {place}:{next(iter(apps))}" if apps else 'write app = sk.App("name") in it'


def _load_module(place: str) -> ModuleType:
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    path = Path(place)
    if path.suffix == ".py" or "/" in place:
        return _load_file(path)
    try:
        if importlib.util.find_spec(place) is None:
            raise ModuleNotFoundError(place)
    except ModuleNotFoundError:
        hint = f"streamkit worker {place}.py" if path.with_suffix(".py").exists() else "name a file: shop.py"
        raise NotFoundError(f"there is no module {place!r} here", hint=hint) from None
    with _blaming(place):
        return importlib.import_module(place)


def _load_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise NotFoundError(
            f"there is no file {path}", hint="name an existing file: streamkit worker shop.py"
        )
    directory = str(path.resolve().parent)  # its neighbours are importable, as with `python shop.py`
    if directory not in sys.path:
        sys.path.insert(0, directory)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise UsageError(f"{path} is not a Python file", hint="streamkit worker shop.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    with _blaming(str(path)):
        spec.loader.exec_module(module)
    return module


@contextmanager
def _blaming(place: str) -> Iterator[None]:
    """An error in the user's module, with the user's own line: what is behind it is of no use to them."""
    try:
        with importing(place):
            yield
    except StreamkitError as error:
        where = users_line(error)
        error.message += where and f" ({where})"
        error.hint = error.hint or (where and f"mend {where}")
        raise
    except Exception as error:
        where = users_line(error)
        raise UsageError(
            f"{place} cannot be imported: {type(error).__name__}: {_words(error)}{where and f' ({where})'}",
            hint=f"python {place}" if place.endswith(".py") else f"python -m {place}",
        ) from error


def _words(error: Exception) -> str:
    """What it says, and the name that a misspelled one resembles: Python has that in tracebacks only."""
    if isinstance(error, SyntaxError):
        return error.msg
    known: Iterable[str] = ()
    if isinstance(error, AttributeError) and error.obj is not None:
        known = [name for name in dir(error.obj) if not name.startswith("_")]
    elif isinstance(error, NameError) and error.__traceback__ is not None:
        *_, (frame, _line) = traceback.walk_tb(error.__traceback__)
        known = [*frame.f_locals, *frame.f_globals]
    meant = difflib.get_close_matches(getattr(error, "name", None) or "", known, n=1)
    return f"{error}. Did you mean '{meant[0]}'?" if meant else str(error)
