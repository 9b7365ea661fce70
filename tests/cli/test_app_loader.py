"""What is wrong in a user's file is told with the user's own line."""

from __future__ import annotations

from pathlib import Path

import pytest

from streamkit.cli.app_loader import load_app
from streamkit.errors import StreamkitError, UsageError

APP = "import streamkit as sk\napp = sk.App('shop')\norders = app.topic('orders', key=str, value=dict)\n"


def refusal(text: str, directory: Path, monkeypatch: pytest.MonkeyPatch) -> StreamkitError:
    monkeypatch.chdir(directory)
    (directory / "broken_shop.py").write_text(APP + text)
    with pytest.raises(UsageError) as refused:
        load_app("broken_shop.py")
    return refused.value


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            "app.stream(orders).window('1m').aggregate(n=sk.Count())",
            "'1m' is no window (broken_shop.py, line 4)",
        ),
        ("app.stream(orders).map(len", "SyntaxError: '(' was never closed (broken_shop.py, line 4)"),
        (
            "import json; json.loads('no')",
            "Expecting value: line 1 column 1 (char 0) (broken_shop.py, line 4)",
        ),
        ("app.Table('totals')", "no attribute 'Table'. Did you mean 'table'? (broken_shop.py, line 4)"),
        (
            "app.stream(orderz)",
            "name 'orderz' is not defined. Did you mean 'orders'? (broken_shop.py, line 4)",
        ),
        ("xyzzy()", "name 'xyzzy' is not defined (broken_shop.py, line 4)"),
        ("import pandsa", "ModuleNotFoundError: No module named 'pandsa' (broken_shop.py, line 4)"),
        (
            "app.agent(orders, conccurency=2)",
            "unexpected keyword argument 'conccurency' (broken_shop.py, line 4)",
        ),
    ],
)
def test_an_error_names_the_line(
    line: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    error = refusal(line + "\n", tmp_path, monkeypatch)
    assert error.message.endswith(message)
    assert error.hint


def test_the_line_is_the_one_of_the_users_own_helper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "windows_of_ours.py").write_text("import streamkit as sk\n\nMINUTE = sk.tumbling('1 min')\n")
    error = refusal("import windows_of_ours\n", tmp_path, monkeypatch)
    assert error.message == "'1 min' is not a duration (windows_of_ours.py, line 3)"


def test_where_no_advice_is_given_it_is_to_mend_the_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    error = refusal("orders.by(lambda o: o).window(sk.tumbling(0))\n", tmp_path, monkeypatch)
    assert error.hint == "mend broken_shop.py, line 4"


def test_a_file_that_runs_its_app_when_it_is_imported_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    error = refusal("app.stream(orders).to('out')\napp.run()\n", tmp_path, monkeypatch)
    assert error.message.startswith("app.run() runs when broken_shop.py is imported")
    assert error.message.endswith("(broken_shop.py, line 5)")
    assert error.hint == 'write: if __name__ == "__main__": app.run()'
