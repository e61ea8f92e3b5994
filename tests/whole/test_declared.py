"""What a method file declares or reads and there is not: told before anything trains, with file, line and the fix."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from udcd_bench import plugins
from udcd_bench.cli.methods import list_
from udcd_bench.errors import UserError

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
    "teacher = ['scratch', 'kd']": r"teacher = \['scratch', 'kd'\] is no teacher\. Give None",
    "views = 3": r"views = 3 is no number of views; give 1 or 2\.",
    "views = True": r"views = True is no number of views",
    "stage_shares = {'head': 0}": r"stage_shares = \{'head': 0\} names no stages",
    "stage_shares = ['head']": r"stage_shares = .* give a dict such as",
    "choices = ['a']": r"choices = \['a'\] is no dict",
    "hparams: dict = ['a']": r"hparams = \['a'\] is no dict",
}
READS = {
    "return {'ce': self.hp.temprature}": r"self\.hp\.temprature is read, .* did you mean 'temperature'\?",
    "hp, info = self.hp, self.info; return {'ce': hp.wieght}": r"self\.hp\.wieght is read.*did you mean 'weight'",
    "return {'ce': self.hp.weight * self.hp.zeta}": r"self\.hp\.zeta is read, and hparams has no 'zeta'",
}
FINE = {
    "hp = self.hp; return {'ce': hp.weight * hp.temperature}",
    "hp = self.hp; hp = batch; return {'ce': hp.labels}",
    "return {'ce': vars(self.hp)['weight'] + len(self.hp.__dict__)}",
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


@pytest.mark.parametrize("line", READS)
def test_a_hyper_parameter_that_is_read_and_not_declared(tmp_path, line):
    write(tmp_path, METHOD.replace("return {}", line))
    with pytest.raises(UserError, match=rf"mine\.py, line 13: {READS[line]}"):
        plugins.read_attributes("methods", "mine")


@pytest.mark.parametrize("line", sorted(FINE))
def test_what_may_be_read(tmp_path, line):
    write(tmp_path, METHOD.replace("return {}", line))
    assert plugins.read_attributes("methods", "mine")["title"] == "Mine"


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
    (tmp_path / "yours.py").write_text(METHOD.replace("# HERE", "teacher = 'trained:kd'"))
    result = CliRunner().invoke(list_, standalone_mode=False)
    assert result.return_value == 1
    rows = {line.split()[0]: line for line in result.stdout.splitlines()}
    assert {"scratch", "udcd", "yours"} <= rows.keys() and "mine" not in rows
    assert "taught by kd" in rows["yours"] and "trained teacher" in rows["kd"]
    assert result.stderr.startswith(f"left out: {file}, line 10: teacher = 'trained:kdd' names no method")
    file.unlink()
    plugins.find_files.cache_clear()
    assert CliRunner().invoke(list_, standalone_mode=False).return_value == 0
