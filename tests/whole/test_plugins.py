"""Finding and loading content: further folders, clashes, broken files, and all of it without executing anything."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from support import suites
from udcd_bench import plugins
from udcd_bench.errors import UserError

METHOD = '''"""Mine: a method of my own."""

from udcd_bench import method


class Method(method.BaseMethod):
    title = "Mine"
    citation = "Me, 2024"
    hparams = {
        "weight": 1.0,  # S: mine
        "kind": "a",  # P eq. 1, see # 2
        "bare": 2,
    }
'''


pytestmark = pytest.mark.usefixtures("own_suites")


def suite(folder, text=METHOD, name="mine", kind="methods"):
    file = folder / kind / f"{name}.py"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return folder


def test_the_content_of_a_checkout_is_found():
    assert {"scratch", "udcd"} <= set(plugins.list_names("methods"))
    assert plugins.find_file("methods", "kd").parent.parent == plugins.find_root()


def test_a_wheels_content_lies_in_the_package(tmp_path, monkeypatch):
    package = tmp_path / "udcd_bench"
    suite(package / "suite")
    monkeypatch.setattr(plugins.suites, "__file__", str(package / "plugins" / "suites.py"))
    assert plugins.find_root() == package / "suite"
    assert plugins.list_names("methods") == ("mine",)


@pytest.mark.parametrize("flat", [False, True], ids=["with subfolders", "method files only"])
def test_a_suite_of_ones_own_joins(tmp_path, flat):
    plugins.add_suite(suite(tmp_path) / "methods" if flat else suite(tmp_path))
    assert {"mine", "scratch"} <= set(plugins.list_names("methods"))
    cls = plugins.load_class("methods", "mine")
    assert cls.title == "Mine"
    assert plugins.load_class("methods", "mine") is cls, "loaded once"
    assert sys.modules[cls.__module__].__file__ == str(tmp_path / "methods" / "mine.py")
    assert os.environ["UDCD_BENCH_SUITE"], "worker processes find it too"


def test_a_suite_may_have_tables_alone(tmp_path):
    plugins.add_suite(suite(tmp_path, kind="tables", name="mine"))
    assert "mine" in plugins.list_names("tables") and "mine" not in plugins.list_names("methods")


def test_the_environment_names_suites_too(tmp_path, monkeypatch):
    one, two = suite(tmp_path / "one"), suite(tmp_path / "two", name="yours")
    monkeypatch.setenv("UDCD_BENCH_SUITE", os.pathsep.join(map(str, (one, two))))
    assert {"mine", "yours", "scratch"} <= set(plugins.list_names("methods"))
    plugins.add_suite(suite(tmp_path / "three", name="theirs"))
    assert {"mine", "yours", "theirs"} <= set(plugins.list_names("methods"))
    seen_by_a_worker = os.environ["UDCD_BENCH_SUITE"].split(os.pathsep)
    assert set(seen_by_a_worker) == {str(one), str(two), str(tmp_path / "three")}


def test_the_same_suite_twice_is_once(tmp_path, monkeypatch):
    monkeypatch.setenv("UDCD_BENCH_SUITE", str(suite(tmp_path)))
    plugins.add_suite(tmp_path)
    plugins.add_suite(tmp_path / "methods" / "..")
    assert "mine" in plugins.list_names("methods")


def test_a_file_that_is_removed_meanwhile_hinders_no_other(tmp_path):
    plugins.add_suite(suite(tmp_path))
    suite(tmp_path, METHOD.replace('"Mine"', '"Other"'), "other")
    assert plugins.read_attributes("methods", "other")["title"] == "Other"
    (tmp_path / "methods" / "mine.py").unlink()
    suite(tmp_path, METHOD.replace('"Mine"', '"Another"'), "other")
    assert plugins.read_attributes("methods", "other")["title"] == "Another"
    with pytest.raises(UserError, match=r"mine.py cannot be read: No such file"):
        plugins.read_attributes("methods", "mine")


def test_missing_suites_are_named(tmp_path, monkeypatch):
    with pytest.raises(UserError, match=r"--suite .*nothing: there is no such folder"):
        plugins.add_suite(tmp_path / "nothing")
    monkeypatch.setenv("UDCD_BENCH_SUITE", str(tmp_path / "nothing"))
    with pytest.raises(UserError, match=r"UDCD_BENCH_SUITE names .*nothing"):
        plugins.list_names("methods")


def test_what_the_package_brings_is_off_until_it_is_named(tmp_path, monkeypatch):
    names, folder = plugins.list_names("methods"), plugins.list_shipped_suites()["modern"]
    assert "logit-adjustment" not in names and "imbalance" not in plugins.list_names("tables")
    (tmp_path / "modern").mkdir()
    monkeypatch.chdir(tmp_path)
    plugins.add_suite(Path("modern"))  # the name, whatever folder is here
    assert "logit-adjustment" in plugins.list_names("methods") and "imbalance" in plugins.list_names("tables")
    assert set(names) < set(plugins.list_names("methods")), "the paper's stay"
    assert os.environ["UDCD_BENCH_SUITE"] == "modern", "a worker's machine may have the package elsewhere"
    by_name = plugins.hash_sources("methods", "logit-adjustment")

    monkeypatch.setattr(plugins.suites, "_ADDED_SUITES", [])
    monkeypatch.setenv("UDCD_BENCH_SUITE", str(folder))
    plugins.find_files.cache_clear()
    assert plugins.hash_sources("methods", "logit-adjustment") == by_name, (
        "keys do not depend on where it lies"
    )
    assert plugins.name_suite(str(folder)) == "modern" and plugins.name_suite("./modern") == str(
        tmp_path / "modern"
    )


def test_another_machine_is_given_the_name(monkeypatch, tmp_path):
    from udcd_bench.engines import ray

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("UDCD_BENCH_SUITE", os.pathsep.join(["modern", "mine"]))
    given = ray._collect_env_vars()["UDCD_BENCH_SUITE"]
    assert given == os.pathsep.join(["modern", str(tmp_path / "mine")])


def test_a_name_that_is_no_suite_is_told_the_nearest(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"--suite moderm: .* did you mean 'modern'"):
        plugins.add_suite("moderm")


def test_two_files_of_one_name_are_both_named(tmp_path):
    plugins.add_suite(suite(tmp_path, name="kd"))
    with pytest.raises(UserError) as caught:
        plugins.list_names("methods")
    assert str(tmp_path / "methods" / "kd.py") in str(caught.value)
    assert str(plugins.find_root() / "methods" / "kd.py") in str(caught.value) and "'kd'" in str(caught.value)


def test_names_with_an_underscore_are_not_content(tmp_path):
    suite(tmp_path)
    plugins.add_suite(suite(tmp_path, name="_shared"))
    assert "_shared" not in plugins.list_names("methods")


def test_tests_can_collect_a_suite_of_ones_own_beside_the_shipped_ones(tmp_path):
    with suites.use_shipped([suite(tmp_path)]):
        assert {"mine", "scratch", "dkd"} <= set(plugins.list_names("methods"))
    with suites.use_shipped():
        assert "mine" not in plugins.list_names("methods")


def test_an_unknown_name_names_the_nearest():
    with pytest.raises(UserError, match="There is no method 'scrach'; did you mean 'scratch'"):
        plugins.find_file("methods", "scrach")
    with pytest.raises(UserError, match="There is no table"):
        plugins.find_file("tables", "no-such")


def test_an_unknown_name_without_a_suite_says_how_to_name_ones_own(tmp_path):
    with pytest.raises(
        UserError, match=r"no method 'vid'\. Known: .* A method of your own needs --suite FOLDER\.$"
    ):
        plugins.find_file("methods", "vid")
    plugins.add_suite(suite(tmp_path))
    with pytest.raises(UserError, match=r"no method 'vid'\. Known: .*udcd-released\.$"):
        plugins.find_file("methods", "vid")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("class Method(:\n", "SyntaxError"),
        ("import no_such_module_anywhere\n", "ModuleNotFoundError"),
        ("raise RuntimeError('at once')\n", "RuntimeError: at once"),
        ("x = 1\n", "defines no class Method"),
        ("from udcd_bench.method import BaseMethod as Method\n", "defines no class Method"),
        ("Method = 3\n", "defines no class Method"),
    ],
)
def test_a_broken_file_is_named(tmp_path, text, says):
    plugins.add_suite(suite(tmp_path, text))
    with pytest.raises(UserError, match=says) as caught:
        plugins.load_class("methods", "mine")
    assert str(tmp_path / "methods" / "mine.py") in str(caught.value)
    plugins.load_class("methods", "scratch")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("class Method(:\n", "cannot be read"),
        ("\0", "cannot be read"),
        ("x = 1\n", "defines no class Method"),
        ("class Method:\n    title = 'a' + str(1)\n", "title must be a literal"),
    ],
)
def test_declared_names_a_file_that_it_cannot_read(tmp_path, text, says):
    plugins.add_suite(suite(tmp_path, text))
    with pytest.raises(UserError, match=says) as caught:
        plugins.read_attributes("methods", "mine")
    assert "mine.py" in str(caught.value)


def test_declared_reads_without_executing(tmp_path):
    text = METHOD + "    count: int = 3\n    later: str\n\nraise RuntimeError('executed')\n"
    plugins.add_suite(suite(tmp_path, text))
    found = plugins.read_attributes("methods", "mine")
    assert found["title"] == "Mine" and found["count"] == 3 and "later" not in found
    assert found["hparams"] == {"weight": 1.0, "kind": "a", "bare": 2}
    assert found["doc"] == "Mine: a method of my own."


def test_comments_are_what_stands_beside_a_value(tmp_path):
    plugins.add_suite(suite(tmp_path))
    assert plugins.read_comments("methods", "mine", "hparams") == {
        "weight": "S: mine",
        "kind": "P eq. 1, see # 2",
    }


def test_comments_after_text_that_is_not_ascii(tmp_path):
    text = METHOD.replace('"kind": "a",', '"kind": "ψ₁ # λ",')
    plugins.add_suite(suite(tmp_path, text))
    assert plugins.read_comments("methods", "mine", "hparams")["kind"] == "P eq. 1, see # 2"


def test_a_file_changed_since_is_loaded_from_where_it_lies(tmp_path):
    plugins.add_suite(suite(tmp_path / "one"))
    first = plugins.load_class("methods", "mine")
    plugins.suites._ADDED_SUITES.clear()
    os.environ.pop("UDCD_BENCH_SUITE")
    plugins.find_files.cache_clear()
    plugins.add_suite(suite(tmp_path / "two", METHOD.replace('"Mine"', '"Other"')))
    assert plugins.load_class("methods", "mine").title == "Other" and first.title == "Mine"
