"""Files that a method imports from its suite: part of its source, executed from their text, and never of two suites."""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path

import pytest

from udcd_bench import plugins
from udcd_bench.errors import UserError

METHOD = '''"""Mine."""

{imports}
from udcd_bench import method


class Method(method.BaseMethod):
    title = "Mine"
    citation = "Me, 2024"
    hparams = {{}}
    value = {value}
'''

pytestmark = pytest.mark.usefixtures("own_suites")


def write(folder, files):
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def make_suite(folder, imports="from _common import SCALE", value="SCALE", **files):
    files = {name.replace("__slash__", "/") + ".py": text for name, text in files.items()}
    plugins.add_suite(write(folder, {"mine.py": METHOD.format(imports=imports, value=value), **files}))
    return folder


CASES = {
    "plain": ("from _common import SCALE", {"_common": "SCALE = 1"}),
    "with the path extended": (
        "import sys, pathlib\nsys.path.insert(0, str(pathlib.Path(__file__).parent))\nfrom _common import SCALE",
        {"_common": "SCALE = 1"},
    ),
    "through another": ("from _one import SCALE", {"_one": "from _two import SCALE", "_two": "SCALE = 1"}),
    "in a package": (
        "from shared_parts.numbers_ import SCALE",
        {"shared_parts__slash____init__": "", "shared_parts__slash__numbers_": "from .deep import SCALE",
         "shared_parts__slash__deep": "SCALE = 1"},
    ),
    "a module of a package": (
        "from shared_parts import deep\nSCALE = deep.SCALE",
        {"shared_parts__slash____init__": "", "shared_parts__slash__deep": "SCALE = 1"},
    ),
    "in a function": (
        "def look():\n    from _late import SCALE\n    return SCALE\n\n\nSCALE = look()", {"_late": "SCALE = 1"}
    ),
}  # fmt: skip


@pytest.fixture(autouse=True)
def path(monkeypatch):
    """The path as it was: a method file may extend it."""
    monkeypatch.setattr(sys, "path", list(sys.path))


@pytest.mark.parametrize("case", CASES)
def test_a_file_that_is_imported_is_part_of_the_source(tmp_path, case):
    imports, files = CASES[case]
    make_suite(tmp_path, imports, **files)
    assert plugins.load_class("methods", "mine").value == 1
    before = plugins.hash_sources("methods", "mine")
    plugins.check_loaded("mine", before)
    changed = next(path for path in tmp_path.rglob("*.py") if "SCALE = 1" in path.read_text())
    assert before.keys() == {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.py")}
    changed.write_text("SCALE = 2")
    after = plugins.hash_sources("methods", "mine")
    assert [name for name in after if after[name] != before[name]] == [str(changed.relative_to(tmp_path))]
    assert plugins.load_class("methods", "mine").value == 2, "loaded anew"


def test_no_stored_bytecode_is_believed(tmp_path):
    """Another text of one size, written in the same second: Python's own loader would take the older one."""
    make_suite(tmp_path, _common="SCALE = 1")
    files = [tmp_path / "mine.py", tmp_path / "_common.py"]
    for path in files:
        os.utime(path, (10**9, 10**9))
        importlib.util.spec_from_file_location("compiled", path).loader.get_code("compiled")
    assert plugins.load_class("methods", "mine").value == 1
    (tmp_path / "_common.py").write_text("SCALE = 2")
    os.utime(tmp_path / "_common.py", (10**9, 10**9))
    assert plugins.load_class("methods", "mine").value == 2


def test_what_is_not_imported_is_no_part(tmp_path):
    make_suite(tmp_path, _common="SCALE = 1", _other="x = 1")
    assert plugins.hash_sources("methods", "mine").keys() == {"mine.py", "_common.py"}
    assert plugins.hash_sources("methods", "kd").keys() == {"kd.py"}


def test_a_suite_of_subfolders_has_the_same_names(tmp_path):
    """A folder of methods given by itself, or within its suite: the same source."""
    folder = make_suite(tmp_path / "one" / "methods", _common="SCALE = 1")
    flat = plugins.hash_sources("methods", "mine")
    plugins.suites._ADDED_SUITES.clear()
    os.environ.pop("UDCD_BENCH_SUITE")
    plugins.find_files.cache_clear()
    plugins.add_suite(folder.parent)
    assert plugins.hash_sources("methods", "mine") == flat
    write(folder.parent, {"_above.py": "SCALE = 3"})
    write(folder, {"mine.py": METHOD.format(imports="from _above import SCALE", value="SCALE")})
    assert plugins.hash_sources("methods", "mine").keys() == {"mine.py", "../_above.py"}
    assert plugins.load_class("methods", "mine").value == 3


def test_the_standard_library_is_not_the_suites(tmp_path):
    make_suite(tmp_path, "import copy\nSCALE = copy.copy(1)", copy="raise RuntimeError")
    assert plugins.hash_sources("methods", "mine").keys() == {"mine.py"}
    assert plugins.load_class("methods", "mine").value == 1


HIDDEN = {
    "by a name made up": "import importlib\nSCALE = importlib.import_module('_hid' + 'den').SCALE",
    "from a file": (
        "import importlib.util, pathlib, sys\n"
        "spec = importlib.util.spec_from_file_location('hidden', pathlib.Path(__file__).with_name('_hidden.py'))\n"
        "module = importlib.util.module_from_spec(spec)\nsys.modules['hidden'] = module\n"
        "spec.loader.exec_module(module)\nSCALE = module.SCALE"
    ),
}


@pytest.mark.parametrize("case", HIDDEN)
def test_an_import_that_the_text_does_not_show_is_refused(tmp_path, monkeypatch, case):
    sys.path.insert(0, str(tmp_path))
    make_suite(tmp_path, HIDDEN[case], _hidden="SCALE = 1")
    for _ in range(2):
        with pytest.raises(
            UserError, match=r"mine.py imports .*_hidden.py in a way that its text does not show"
        ):
            plugins.load_class("methods", "mine")


@pytest.mark.parametrize("loaded_before", [False, True])
def test_another_method_is_not_loaded_behind_the_keys_back(tmp_path, loaded_before):
    if loaded_before:
        plugins.load_class("methods", "kd")
    make_suite(tmp_path, "from udcd_bench import plugins\nSCALE = plugins.load_class('methods', 'kd').views")
    with pytest.raises(UserError, match="it loads the method 'kd'"):
        plugins.load_class("methods", "mine")


def test_one_name_in_two_suites_is_refused_before_a_run(tmp_path):
    make_suite(tmp_path / "one", _common="SCALE = 1")
    other = write(
        tmp_path / "two", {"yours.py": METHOD.format(imports="import _common", value=2), "_common.py": ""}
    )
    plugins.hash_sources("methods", "mine")
    plugins.add_suite(other)
    with pytest.raises(UserError) as caught:
        plugins.hash_sources("methods", "yours")
    assert all(str(tmp_path / folder / "_common.py") in str(caught.value) for folder in ("one", "two"))


def test_a_name_that_is_taken_is_refused(tmp_path):
    make_suite(tmp_path, "import yaml\nSCALE = 1", yaml="x = 1")
    importlib.import_module("yaml")
    with pytest.raises(
        UserError, match=r"imports 'yaml', which is .*yaml.py and also a module that is loaded already"
    ):
        plugins.load_class("methods", "mine")


def test_a_helper_that_cannot_be_read_is_named(tmp_path):
    make_suite(tmp_path, _common="SCALE = (")
    with pytest.raises(UserError, match=r"_common.py, line 1, cannot be read: SyntaxError"):
        plugins.hash_sources("methods", "mine")


def test_a_suite_in_an_installed_package_may_import_it(tmp_path, monkeypatch):
    from importlib import metadata

    package = write(
        tmp_path / "site",
        {"lab_pack/__init__.py": "", "lab_pack/parts.py": "SCALE = 4",
         "lab_pack/suite/methods/mine.py": METHOD.format(imports="from lab_pack.parts import SCALE", value="SCALE")},
    )  # fmt: skip
    sys.path.insert(0, str(package))
    point = metadata.EntryPoint("lab", "lab_pack.suite", plugins.ENTRY_POINT_GROUP)
    monkeypatch.setattr(plugins.suites, "_read_entry_points", lambda path: (point,))
    plugins.find_files.cache_clear()
    assert plugins.hash_sources("methods", "mine").keys() == {
        "mine.py", "../../parts.py", "../../__init__.py"
    }  # fmt: skip
    assert plugins.load_class("methods", "mine").value == 4
    (package / "lab_pack" / "parts.py").write_text("SCALE = 5")
    assert plugins.load_class("methods", "mine").value == 5
    assert "lab_pack" in sys.modules and Path(sys.modules["lab_pack.parts"].__file__).exists()


def test_a_change_between_the_plan_and_the_loading_is_seen(tmp_path):
    make_suite(tmp_path, _common="SCALE = 1")
    planned = plugins.hash_sources("methods", "mine")
    (tmp_path / "_common.py").write_text("SCALE = 2")
    plugins.load_class("methods", "mine")
    with pytest.raises(UserError, match="changed while it was loaded"):
        plugins.check_loaded("mine", planned)


UNFOLLOWED = {
    "executed as text": "import pathlib\nexec(pathlib.Path(__file__).with_name('_hidden.py').read_text())",
    "run": "import runpy, pathlib\n"
    "SCALE = runpy.run_path(str(pathlib.Path(__file__).with_name('_hidden.py')))['SCALE']",
    "from a file, and put nowhere": (
        "import importlib.util, pathlib\n"
        "spec = importlib.util.spec_from_file_location('hid', pathlib.Path(__file__).with_name('_hidden.py'))\n"
        "module = importlib.util.module_from_spec(spec)\nspec.loader.exec_module(module)\nSCALE = module.SCALE"
    ),
    "numbers": "import numpy, pathlib\nSCALE = int(numpy.loadtxt(pathlib.Path(__file__).with_name('scale.txt')))",
    "text": (
        "import os\nwith open(os.path.join(os.path.dirname(__file__), 'scale.txt')) as f:\n    SCALE = int(f.read())"
    ),
}


@pytest.mark.parametrize("case", UNFOLLOWED)
def test_a_file_that_is_reached_without_an_import_is_refused(tmp_path, case):
    (tmp_path / "scale.txt").write_text("1")
    make_suite(tmp_path, UNFOLLOWED[case], _hidden="SCALE = 1")
    for _ in range(2):  # the second time from stored bytecode
        with pytest.raises(
            UserError, match=r"mine.py (reads|imports) .*(_hidden.py|scale.txt).* would go unseen; "
        ):
            plugins.load_class("methods", "mine")


def test_what_a_method_writes_or_finds_in_an_environment_is_not_refused(tmp_path):
    (tmp_path / "lib" / "site-packages").mkdir(parents=True)
    (tmp_path / "lib" / "site-packages" / "table.txt").write_text("1")
    make_suite(
        tmp_path,
        "import os, json, wave\nhere = os.path.dirname(__file__)\n"
        "open(os.path.join(here, 'log.txt'), 'w').close()\n"
        "with open(os.path.join(here, 'lib/site-packages/table.txt')) as f:\n    SCALE = int(f.read())\n"
        "open(__file__).close()",
    )
    assert plugins.load_class("methods", "mine").value == 1
    with (tmp_path / "log.txt").open():  # nobody's method
        plugins.check_loaded("mine", plugins.hash_sources("methods", "mine"))


LATE = {
    "imported": "def look():\n    import importlib\n    return importlib.import_module('_hid' + 'den').SCALE",
    "read": "import json, pathlib\n\n\ndef look():\n"
    "    return json.loads(pathlib.Path(__file__).with_name('scale.txt').read_text())",
}


@pytest.mark.parametrize("case", LATE)
def test_a_file_that_is_reached_later_is_refused_then(tmp_path, case):
    sys.path.insert(0, str(tmp_path))
    (tmp_path / "scale.txt").write_text("1")
    make_suite(tmp_path, LATE[case], "look", _hidden="SCALE = 1")
    method = plugins.load_class("methods", "mine")
    plugins.check_followed("mine")
    assert vars(method)["value"]() == 1
    with pytest.raises(UserError, match=r"mine.py (imports .*_hidden.py|reads .*scale.txt)"):
        plugins.check_followed("mine")


OUTSIDE = {
    "by its path": "import sys\nsys.path.insert(0, {folder!r})\nimport far_away\nSCALE = far_away.SCALE",
    "from it": "import sys\nsys.path.insert(0, {folder!r})\nfrom far_away import SCALE",
    "by a name made up": (
        "import importlib, sys\nsys.path.insert(0, {folder!r})\nSCALE = importlib.import_module('far_' + 'away').SCALE"
    ),
}


@pytest.mark.parametrize("loaded_before", [False, True])
@pytest.mark.parametrize("case", OUTSIDE)
def test_a_module_outside_the_suite_is_refused(tmp_path, case, loaded_before):
    folder = str(write(tmp_path / "far", {"far_away.py": "SCALE = 1"}))
    if loaded_before and case != "by a name made up":
        sys.path.insert(0, folder)
        importlib.import_module("far_away")
    make_suite(tmp_path / "suite", OUTSIDE[case].format(folder=folder))
    for _ in range(2):
        with pytest.raises(UserError, match=r"mine.py imports .*far_away.py, which lies outside its suite"):
            plugins.load_class("methods", "mine")
    assert "far_away" not in sys.modules


@pytest.mark.parametrize("editable", [False, True])
def test_an_installed_module_is_not_refused(tmp_path, editable):
    folder = write(tmp_path / ("far" if editable else "far/site-packages"), {"far_away.py": "SCALE = 1"})
    if editable:
        link = f'{{"url": "{folder.as_uri()}", "dir_info": {{"editable": true}}}}'
        dist = {
            "far-1.dist-info/METADATA": "Name: far\nVersion: 1\n",
            "far-1.dist-info/direct_url.json": link,
        }
        sys.path.insert(0, str(write(tmp_path / "site", dist)))
    make_suite(tmp_path / "suite", OUTSIDE["from it"].format(folder=str(folder)))
    assert plugins.load_class("methods", "mine").value == 1
    del sys.modules["far_away"]


def test_a_helper_by_any_name_is_no_method(tmp_path):
    """Two suites may each have one, as long as no run needs both."""
    for name in ("one", "two"):
        text = METHOD.format(imports="from utils import SCALE", value="SCALE")
        plugins.add_suite(write(tmp_path / name, {f"{name}.py": text, "utils.py": "SCALE = 1"}))
    assert {"one", "two"} < set(plugins.list_names("methods")) and "utils" not in plugins.list_names(
        "methods"
    )
    assert plugins.load_class("methods", "two").value == 1
    (tmp_path / "two" / "alone.py").write_text("SCALE = 1")
    plugins.find_files.cache_clear()
    with pytest.raises(UserError, match=r"defines no class Method; .* be called _alone\.py"):
        plugins.read_attributes("methods", "alone")


WRONG = {
    "a relative import": ("from ._common import SCALE", "write `from _h import x` for `from ._h import x`"),
    "a folder": (
        "from sub.parts import SCALE",
        r"sub, which is no package; put an empty __init__.py into it",
    ),
    "a helper's mistake": (
        "from _wrong import SCALE",
        r"mine.py imports _wrong, and .*_wrong.py, line 1, cannot be read: Syntax",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_an_import_that_cannot_work_says_what_to_write(tmp_path, case):
    imports, said = WRONG[case]
    make_suite(tmp_path, imports, _common="SCALE = 1", _wrong="SCALE = (", sub__slash__parts="SCALE = 1")
    with pytest.raises(UserError, match=said):
        plugins.load_class("methods", "mine")


def test_a_linked_method_says_where_its_helpers_are_looked_for(tmp_path):
    text = METHOD.format(imports="from _beside import SCALE", value="SCALE")
    write(tmp_path / "real", {"mine.py": text, "_beside.py": "SCALE = 1"})
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "mine.py").symlink_to("../real/mine.py")
    plugins.add_suite(tmp_path / "linked")
    with pytest.raises(
        UserError, match=r"the file is a link, and what it imports is looked for beside the link"
    ):
        plugins.load_class("methods", "mine")
    (tmp_path / "linked" / "_beside.py").symlink_to("../real/_beside.py")
    assert plugins.load_class("methods", "mine").value == 1


READERS = {
    "an item": ("import os", "os.environ['EPS']"),
    "a call": ("import os.path", "os.getenv('EPS', '1')"),
    "an alias": ("import os as system", "system.environb.get(b'EPS')"),
    "a name": ("from os import environ as e", "e.get('EPS')"),
    "all names": ("from os import *", "getenv('EPS')"),
    "another module's": ("import shutil", "shutil.os.environ['EPS']"),
    "a module by another name": ("import os\nsystem = os", "system.getenv('EPS')"),
    "a name as text": ("import os", "getattr(os, 'environ')['EPS']"),
    "a path": ("import os", "os.path.expandvars('$EPS')"),
    "a program": ("import subprocess", "subprocess.getoutput('echo $EPS')"),
    "a helper": ("from _common import SCALE", "SCALE"),
}


@pytest.mark.parametrize("case", READERS)
def test_a_method_that_reads_an_environment_variable_is_refused_by_its_text(tmp_path, monkeypatch, case):
    monkeypatch.setenv("EPS", "2")
    imports, value = READERS[case]
    make_suite(tmp_path, imports, f"lambda self: {value}", _common="import os\nSCALE = os.environ.get('EPS')")
    file = "_common.py" if case == "a helper" else "mine.py"
    for read in (plugins.hash_sources, plugins.load_class):
        with pytest.raises(
            UserError, match=rf"{file}, line \d+, reads environment .*make it a hyper-parameter"
        ):
            read("methods", "mine")


def test_a_method_may_set_an_environment_variable(tmp_path, monkeypatch):
    monkeypatch.setenv("EPS", "2")
    make_suite(tmp_path, "import os\nos.environ['EPS'] = '3'\ndel os.environ['EPS']", "1")
    assert plugins.load_class("methods", "mine").value == 1
