"""What a method file declares or reads and there is not: told before anything trains, with file, line and the fix."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from support import factories
from udcd_bench import plugins
from udcd_bench.cli.methods import list_
from udcd_bench.errors import UserError
from udcd_bench.method import DatasetInfo
from udcd_bench.plugins.contract import INFO

METHOD = '''"""Mine: a method of my own."""

from udcd_bench import method


class Method(method.BaseMethod):
    title = "Mine"
    citation = "Me, 2024"
    hparams = {"temperature": 4.0, "weight": 1.0}  # S: mine
    # HERE

    def compute_losses(self, batch, progress):
        return {}  # THERE
'''
MISTAKES = {
    "teacher = 'train'": r"teacher = 'train' is no teacher; did you mean 'trained'\? Give None, 'ema', 'trained', ",
    "teacher = 'kd'": r"teacher = 'kd' names a row; write teacher = 'trained:kd'\.",
    "teacher = 'trained:kdd'": r"teacher = 'trained:kdd' names no method; did you mean 'kd'\?",
    "teacher = {'scratch', 'kd'}": r"teacher = \{.*\} is no teacher\. Give None",
    "teacher = ['scratch', 'kd']": r"teacher = 'scratch' names a row; write teacher = 'trained:scratch'\.",
    "teacher = ['trained', 'trained:kdd']": r"teacher = 'trained:kdd' names no method; did you mean 'kd'\?",
    "teacher = ['trained:kd']": r"teacher = \['trained:kd'\] is no list of teachers; give two or more different ones",
    "teacher = ('trained', 'ema')": r"teacher = \('trained', 'ema'\) is no list of teachers; give two or more",
    "teacher = ['trained', 'trained']": r"teacher = \['trained', 'trained'\] is no list of teachers; give two or more",
    "views = 3": r"views = 3 is no number of views; give 1 or 2\.",
    "views = True": r"views = True is no number of views",
    "stage_shares = {'head': 0}": r"stage_shares = \{'head': 0\} names no stages",
    "stage_shares = ['head']": r"stage_shares = .* give a dict such as",
    "choices = ['a']": r"choices = \['a'\] is no dict",
    "hparams: dict = ['a']": r"hparams = \['a'\] is no dict",
    "family = 'feature'": r"family = 'feature' is no family; did you mean 'features'\? Known: contrast, features, ",
    "level = True": r"level is nothing that a method declares; did you mean 'levels'\? A constant of its own needs",
    "familly = 'logits'": r"familly is nothing that a method declares; did you mean 'family'\?",
    "stage_share = {'train': 1.0}": r"stage_share is nothing .* did you mean 'stage_shares'\?",
}
READS = {
    "return {'ce': self.hp.temprature}": r"self\.hp\.temprature is read, .* did you mean 'temperature'\?",
    "hp, info = self.hp, self.info; return {'ce': hp.wieght}": r"self\.hp\.wieght is read.*did you mean 'weight'",
    "return {'ce': self.hp.weight * self.hp.zeta}": r"self\.hp\.zeta is read, and hparams has no 'zeta'",
    "return {'map': self.student(batch.views[0]).levels[-1]}": r"self\.student\(batch\.views\[0\]\)\.levels is read, "
    r"and holds nothing without levels = True in the class; add that\.",
    "f = self.student(batch.views[0]); return {'map': f.levels[-1]}": r"f\.levels is read, and holds nothing",
    "return {'map': self.info.student_levels}": r"self\.info\.student_levels is read, and holds nothing",
    "return {'ce': self.info.n_clases}": r"self\.info\.n_clases is read, and info has no 'n_clases'; "
    r"did you mean 'classes'\?",
    "info = self.info; return {'ce': info.student_widht}": r"self\.info\.student_widht is read.*'student_width'\?",
    "return {'ce': self.run_teacher(batch.views[0]).logits}": r"self\.run_teacher is read, and the class has no "
    r"teacher; give teacher = 'trained' or another\.",
}
FINE = {
    "hp = self.hp; return {'ce': hp.weight * hp.temperature}",
    "hp = self.hp; hp = batch; return {'ce': hp.labels}",
    "info = self.info; info = batch; return {'ce': info.views + self.info.count_images()}",
    "return {'ce': vars(self.hp)['weight'] + len(self.hp.__dict__)}",
    "return {'ce': self.levels + self.pyramid.levels + self.student_levels}",
}
DECLARED = {
    "levels = True": "f = self.student(batch.views[0]); return {'map': f.levels[-1], 'n': self.info.teacher_levels}",
    "teacher = 'ema'": "return {'ce': self.run_teacher(batch.views[0]).logits}",
    "levels = True; level = 3": "return {'map': self.student(batch.views[0]).levels[self.level]}",
    "depth = 3; HPARAMS = 2; family = ''": "return {'ce': self.depth}",
}

pytestmark = pytest.mark.usefixtures("own_suites")


def write(folder, text):
    folder.mkdir(exist_ok=True)
    (folder / "mine.py").write_text(text)
    plugins.add_suite(folder)
    return folder / "mine.py"


@pytest.mark.parametrize("mistake", MISTAKES)
def test_what_is_declared_and_there_is_not(tmp_path, mistake):
    file = write(tmp_path, METHOD.replace("# HERE", mistake))
    with pytest.raises(UserError, match=rf"mine\.py, line 10: {MISTAKES[mistake]}") as caught:
        plugins.read_attributes("methods", "mine")
    assert str(file) in str(caught.value)


def test_a_title_that_another_method_has_is_refused(tmp_path):
    write(tmp_path, METHOD.replace('"Mine"', '"KD"'))
    with pytest.raises(
        UserError, match=r"mine\.py, line 7: title = 'KD' is that of kd too; give it another\."
    ):
        plugins.read_attributes("methods", "mine")


@pytest.mark.parametrize("names", [("mine", "yours"), ("mine", "broken")])
def test_of_two_methods_of_ones_own_with_one_title_the_later_is_refused(tmp_path, names):
    first, second = names
    write(tmp_path, METHOD)
    text = METHOD if second == "yours" else METHOD + "("
    (tmp_path / f"{second}.py").write_text(text)
    assert plugins.read_attributes("methods", first)["title"] == "Mine"
    with pytest.raises(UserError, match="of mine too" if second == "yours" else "cannot be read"):
        plugins.read_attributes("methods", second)


@pytest.mark.parametrize("line", READS)
def test_a_hyper_parameter_that_is_read_and_not_declared(tmp_path, line):
    write(tmp_path, METHOD.replace("return {}", line))
    with pytest.raises(UserError, match=rf"mine\.py, line 13: {READS[line]}"):
        plugins.read_attributes("methods", "mine")


@pytest.mark.parametrize("line", sorted(FINE))
def test_what_may_be_read(tmp_path, line):
    write(tmp_path, METHOD.replace("return {}", line))
    assert plugins.read_attributes("methods", "mine")["title"] == "Mine"


def test_what_may_be_read_of_info_is_what_it_has():
    names = {
        name for name in vars(DatasetInfo) if not name.startswith("_")
    } | DatasetInfo.__dataclass_fields__.keys()
    assert set(INFO) == names - {"from_labels"}, "by which it is made"


@pytest.mark.parametrize("attributes", DECLARED)
def test_what_may_be_declared_and_read(tmp_path, attributes):
    write(tmp_path, METHOD.replace("# HERE", attributes).replace("return {}", DECLARED[attributes]))
    assert plugins.read_attributes("methods", "mine")["title"] == "Mine"


@pytest.mark.parametrize("name", ["title", "citation"])
def test_a_title_and_a_citation_are_needed(tmp_path, name):
    write(tmp_path, METHOD.replace(f"    {name} =", "    other ="))
    with pytest.raises(UserError, match=rf"mine\.py, line 6: the class has no {name}; write {name} = "):
        plugins.read_attributes("methods", "mine")
    write(tmp_path, METHOD.replace(f"    {name} =", f"    {name[:-1]} ="))
    with pytest.raises(UserError, match=rf"{name[:-1]} is nothing .* did you mean '{name}'\?"):
        plugins.read_attributes("methods", "mine")


def test_a_teacher_that_is_not_there_is_told_when_it_is_to_run(tmp_path):
    with pytest.raises(UserError, match=r"^Scratch: run_teacher has no teacher to run; declare one"):
        factories.method("scratch").run_teacher(factories.batch().views[0])


def test_without_hyper_parameters_none_may_be_read(tmp_path):
    text = METHOD.replace("return {}", "return {'ce': self.hp.weight}").replace(
        "    hparams =", "    nothing ="
    )
    write(tmp_path, text)
    with pytest.raises(UserError, match=r"hparams has no 'weight'; declare it there, with its source\."):
        plugins.read_attributes("methods", "mine")


def test_those_of_a_base_class_are_not_judged_from_here(tmp_path):
    text = METHOD.replace("return {}", "return {'ce': self.hp.beta}").replace(
        "    hparams =", "    nothing ="
    )
    write(tmp_path, text.replace("method.BaseMethod", "Other"))
    assert "hparams" not in plugins.read_attributes("methods", "mine")


def test_a_file_that_is_no_python_has_a_line(tmp_path):
    write(tmp_path, METHOD.replace("return {}", "return {"))
    with pytest.raises(
        UserError, match=r"mine\.py, line 13, cannot be read: SyntaxError: .*; fix that line\."
    ):
        plugins.read_attributes("methods", "mine")


def test_a_file_that_cannot_be_executed_has_a_line(tmp_path):
    write(tmp_path, METHOD.replace("# HERE", "width = 3 * HIDDEN"))
    with pytest.raises(UserError, match=r"mine\.py, line 10: width must be a literal"):
        plugins.read_attributes("methods", "mine")
    write(tmp_path, METHOD + "\n\nHIDDEN = WIDTH\n")
    with pytest.raises(UserError, match=r"mine\.py, line 16, cannot be loaded: NameError: name 'WIDTH'"):
        plugins.load_class("methods", "mine")


def test_the_list_goes_on_without_that_file(tmp_path):
    file = write(tmp_path, METHOD.replace("# HERE", "teacher = 'trained:kdd'"))
    yours = METHOD.replace('"Mine"', '"Yours"').replace("# HERE", "teacher = 'trained:kd'")
    (tmp_path / "yours.py").write_text(yours)
    result = CliRunner().invoke(list_, standalone_mode=False)
    assert result.return_value == 1
    rows = {line.split()[0]: line for line in result.stdout.splitlines()}
    assert {"scratch", "udcd", "yours"} <= rows.keys() and "mine" not in rows
    assert "taught by kd" in rows["yours"] and "trained teacher" in rows["kd"]
    assert result.stderr.startswith(f"left out: {file}, line 10: teacher = 'trained:kdd' names no method")
    file.unlink()
    plugins.find_files.cache_clear()
    assert CliRunner().invoke(list_, standalone_mode=False).return_value == 0
