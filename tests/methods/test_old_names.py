"""A method file that was written for the contract's old names is told the new ones, before anything runs."""

from __future__ import annotations

import sys

import pytest

from udcd_bench import plugins
from udcd_bench.cli import main
from udcd_bench.errors import UserError

FILE = '''"""Mine."""
from udcd_bench import losses, memory, method


class Method({base}):
    """Mine."""

    title = "Mine"
    citation = "None, 2024"

    def {name}(self, batch, progress):
        return {{"ce": {body}}}
'''
CASES = {
    "base": ({"base": "method.Method"}, "'method.Method' (line 5) is now 'method.BaseMethod'"),
    "losses": ({"name": "losses"}, "'def losses' (line 11) is now 'def compute_losses'"),
    "averages": ({"name": "averages"}, "'def averages' (line 11) is now 'def list_ema_pairs'"),
    "deployed": ({"name": "deployed"}, "'def deployed' (line 11) is now 'def get_inference_state_dict'"),
    "teach": ({"name": "teach"}, "'def teach' (line 11) is now 'def run_teacher'"),
    "self.teach": (
        {"body": "self.teach(batch.views[0])"},
        "'self.teach' (line 12) is now 'self.run_teacher'",
    ),
    "confidence": (
        {"body": "losses.confidence(0)"},
        "'losses.confidence' (line 12) is now 'losses.normalized_entropy'",
    ),
    "updated": (
        {"body": "self.memory.updated(1, 2, 3)"},
        "'memory.updated' (line 12) is now 'memory.update'",
    ),
    "started": (
        {"body": "progress.started"},
        "'progress.started' (line 12) is now 'progress.teacher_active'",
    ),
}


def write_method(folder, **changes):
    words = {"base": "method.BaseMethod", "name": "compute_losses", "body": "0", **changes}
    (folder / "mine.py").write_text(FILE.format(**words))


@pytest.fixture
def suite(tmp_path, monkeypatch):
    monkeypatch.setattr(plugins.suites, "_ADDED_SUITES", [tmp_path])
    plugins.find_files.cache_clear()
    yield tmp_path
    plugins.find_files.cache_clear()


LINES = {
    "from udcd_bench.method import Method as Base": "'udcd_bench.method.Method' (line 1) is now "
    "'udcd_bench.method.BaseMethod'",
    "from udcd_bench.losses import kd, confidence": "'udcd_bench.losses.confidence' (line 1) is now "
    "'udcd_bench.losses.normalized_entropy'",
    "method.Stage('train', losses=f, trained_modules=[])": "'Stage(losses=)' (line 1) is now "
    "'Stage(compute_losses=)'",
    "super().teach(x)": "'self.teach' (line 1) is now 'self.run_teacher'",
    "self.memory = self.memory.updated(x)": "(memory.update returns nothing: do not assign it)",
}


@pytest.mark.parametrize("line", LINES)
def test_an_old_name_is_found_wherever_it_stands(suite, line):
    (suite / "mine.py").write_text(f"{line}\n")
    with pytest.raises(UserError) as caught:
        plugins.read_attributes("methods", "mine")
    assert LINES[line] in str(caught.value)


def test_a_class_of_the_files_own_may_use_any_name(suite):
    write_method(suite)
    with (suite / "mine.py").open("a") as file:
        file.write(
            "\n\nclass Head:\n    def losses(self):\n        return 0\n\n    def teach(self):\n        return 1\n"
        )
    assert plugins.load_class("methods", "mine").title == "Mine"


@pytest.mark.parametrize("case", CASES)
def test_an_old_name_is_refused_with_the_new_one(suite, case):
    changes, message = CASES[case]
    write_method(suite, **changes)
    for read in (plugins.read_attributes, plugins.load_class):
        with pytest.raises(UserError) as caught:
            read("methods", "mine")
        assert message in str(caught.value) and str(suite / "mine.py") in str(caught.value)
        assert str(caught.value).count("is now") == 1


def test_the_new_names_are_accepted_and_so_is_a_helper_with_an_old_one(suite):
    write_method(suite)
    with (suite / "mine.py").open("a") as file:
        file.write("\n    def losses(self):\n        return losses.normalized_entropy\n")
    assert plugins.read_attributes("methods", "mine")["title"] == "Mine"
    assert plugins.load_class("methods", "mine").title == "Mine"


def test_the_command_line_exits_with_2_before_it_trains(suite, monkeypatch, capsys):
    write_method(suite, base="method.Method", name="losses")
    command = ["udcd-bench", "train", "mine", "--dataset", "digits", "--out", str(suite / "out")]
    monkeypatch.setattr(sys, "argv", command)
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 2
    message = capsys.readouterr().err
    assert "'method.Method' (line 5) is now 'method.BaseMethod'" in message
    assert "'def losses' (line 11) is now 'def compute_losses'" in message
    assert len(message.splitlines()) == 1 and not (suite / "out").exists()
