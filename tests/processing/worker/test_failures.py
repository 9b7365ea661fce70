"""The last words of a worker whose task failed: where, why, in which line of the user's, and what to do."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

from streamkit.errors import RefusedError
from streamkit.processing.tasks.settlement import TaskFailure
from streamkit.processing.worker.failures import MEND, explained


def failure(error: Exception) -> TaskFailure:
    return TaskFailure("shop-map", error, ("orders", 3), 47)


def test_an_error_of_the_users_names_the_users_line(tmp_path: Path) -> None:
    path = tmp_path / "shop.py"
    path.write_text("import json\n\ndef decode(text):\n    return json.loads(text)\n")
    shop = ModuleType("shop")
    exec(compile(path.read_text(), str(path), "exec"), vars(shop))  # noqa: S102
    try:
        shop.decode("{")
    except ValueError as error:
        told = explained(failure(error))
    assert told.message.startswith("shop-map failed at orders-3, offset 47: JSONDecodeError: ")
    assert told.message.endswith(f" ({path}, line 4)")
    assert told.hint == MEND


def test_an_error_of_ours_keeps_its_own_advice() -> None:
    told = explained(failure(RefusedError("written at another key", hint="group_by first")))
    assert told.message == "shop-map failed at orders-3, offset 47: written at another key"
    assert told.hint == "group_by first"


def test_a_failure_without_a_record_has_no_place() -> None:
    told = explained(TaskFailure("shop-process", KeyError("x"), None, None))
    assert told.message == "shop-process failed: KeyError: 'x'"
