"""Nothing is overwritten in silence: a request's files have a name of their own and hold the command that made them."""

from __future__ import annotations

import io
import logging

import pandas as pd
import pytest
from PIL import Image

from support import records as make
from udcd_bench import plugins
from udcd_bench.artefacts.commands import format_artefact_command
from udcd_bench.artefacts.file_names import MOST_CHARACTERS, make_stem
from udcd_bench.artefacts.made_from import find_used_keys
from udcd_bench.artefacts.table import TableRequest
from udcd_bench.cli import cli
from udcd_bench.render import plots
from udcd_bench.render.csv_text import add_command, format_csv, read_command, skip_command
from udcd_bench.report.figures import build_figures
from udcd_bench.runs.results import Results
from udcd_bench.runs.store import Store

ASK = TableRequest(methods=("scratch", "udcd"), datasets=("digits",))
COMMAND = "udcd-bench run table2 --profile demo --datasets digits --methods scratch,udcd"


def stem(artefact="table2", kind="tables", **changes):
    return make_stem(plugins.load_class(kind, artefact)(), TableRequest(**changes))


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({}, "table2"),
        ({"split": "grouped"}, "table2-grouped"),
        ({"methods": ("udcd", "scratch"), "datasets": ("digits",)}, "table2-scratch-udcd-digits"),
        ({"methods": ("udcd",), "split": "paper-val"}, "table2-udcd-paper-val"),
        ({"datasets": ("aptos", "ham10000")}, "table2"),
        ({"datasets": ("synthetic-lesions",)}, "table2-synthetic-lesions"),
        ({"datasets": ("folder:skin#7b5b00112233",)}, "table2-skin-7b5b"),
        ({"backbone": "densenet-tiny"}, "table2"),
        ({"backbone": "resnet-tiny", "teacher_backbone": "resnet-tiny"}, "table2-resnet-tiny"),
        ({"teacher_backbone": "resnet-tiny"}, "table2-teacher-resnet-tiny"),
        ({"protocol": (("epochs", "16"),)}, "table2"),
        ({"protocol": (("epochs", "3"),), "hparams": (("udcd.lambda_kl", "2"),)}, "table2-epochs=3-udcd.lambda_kl=2"),
        ({"protocol": (("weights", "net.safetensors#59edc076f02f"),)}, "table2-weights-59edc076"),
        ({"profile": "paper", "datasets": ("ham10000",), "split": "official"}, "table2-official"),
        ({"folds": (0, 1), "seeds": (0, 1, 2)}, "table2-folds-0-1-seeds-3"),
        ({"folds": (0, 1, 2, 3, 4), "seeds": (2,)}, "table2-folds-all-seeds-2"),
        ({"marks": "largest", "plain": True}, "table2"),
        ({"rule": "last", "protocol": (("validation", ".2"),)}, "table2-validation=.2-rule-last"),
        ({"methods": ("udcd",), "split": "grouped", "name": "mine"}, "mine-grouped"),
    ],
)  # fmt: skip
def test_a_name_says_what_is_asked_for_in_place_of_all(changes, name):
    assert stem(**changes) == name


def test_a_figure_of_several_backbones_says_which_one_is_asked_for():
    assert stem("backbones", "figures") == "backbones"
    assert stem("backbones", "figures", backbone="densenet-tiny") == "backbones-densenet-tiny"
    assert stem(methods=tuple(plugins.list_names("methods"))) == "table2", (
        "all rows are what it has by itself"
    )


def test_what_a_name_cannot_hold_is_told_apart_by_a_digest():
    long = [stem(methods=tuple(plugins.list_names("methods"))[:9], protocol=(("epochs", n),)) for n in "34"]
    assert len(set(long)) == 2 and all(len(name) <= len("table2-") + MOST_CHARACTERS for name in long)
    odd = {stem(datasets=(f"folder:{name}",)) for name in ("皮", "性", "a/b;c")}
    assert len(odd) == 3 and all(name.isascii() and not set(name) & set("/; ") for name in odd)


def store_runs(root, ask, kind, name):
    store = Store(root)
    return Results(
        store, {s: make.finish(store, s, n=40) for s in plugins.load_class(kind, name)().list_runs(ask)}, {}
    )


def test_every_file_of_a_table_holds_the_command_that_made_it(tmp_path):
    results = store_runs(tmp_path, ASK, "tables", "table2")
    csv, tex, png, markdown = plugins.load_class("tables", "table2")().render(ASK, results).files
    assert csv.stem == "table2-scratch-udcd-digits"
    assert read_command(csv.read_text().partition("\n")[0]) == COMMAND
    assert (
        f"\n% {COMMAND}\n" in tex.read_text()
        and r"\label{tab:udcd-bench-table2-scratch-udcd-digits}" in tex.read_text()
    )
    assert markdown.read_text().splitlines()[-1] == f"Made by {COMMAND}"
    with Image.open(png) as picture:
        assert picture.info[plots.COMMAND_KEY] == COMMAND
    assert len(find_used_keys(tmp_path, {})) == 2


@pytest.mark.slow
def test_another_request_leaves_the_full_table_alone(tmp_path, caplog):
    table = plugins.load_class("tables", "table2")()
    full = TableRequest()
    results = store_runs(tmp_path, full, "tables", "table2")
    first = table.render(full, results).files[0]
    before = first.read_bytes()
    with caplog.at_level(logging.WARNING):
        table.render(TableRequest(methods=("scratch", "udcd")), results)
        table.render(full, results)
    assert first.read_bytes() == before and not [r for r in caplog.records if "replaced" in r.getMessage()]
    table.render(TableRequest(name="mine"), results)
    table.render(TableRequest(name="mine", methods=("udcd",)), results)
    (said,) = [r.getMessage() for r in caplog.records if "replaced" in r.getMessage()]
    assert "mine.csv is replaced" in said and said.endswith(
        "udcd-bench run table2 --profile demo --name mine"
    )


@pytest.mark.slow
def test_a_figure_of_other_rows_has_its_own_files_and_place_in_the_report(tmp_path, monkeypatch):
    monkeypatch.setattr(plots, "DPI", 40)
    figure = plugins.load_class("figures", "learning")()
    full, few = TableRequest(datasets=("digits",), name="learning"), ASK
    results = store_runs(tmp_path, few, "figures", "learning")
    for ask in (few, TableRequest(split="grouped", **{"methods": ("udcd",), "datasets": ("digits",)})):
        files = figure.render(ask, results).files
        command = format_artefact_command("plot", "learning", ask)
        assert all(
            read_command(f.read_text().partition("\n")[0]) == command for f in files if f.suffix == ".csv"
        )
        assert command.encode() in files[1].read_bytes(), "the PDF's metadata"
    figure.render(full, results)
    drawn = list(build_figures(tmp_path, [TableRequest()]))
    stem = "learning-scratch-udcd-digits"
    assert [part.anchor for part in drawn] == ["demo-learning", f"demo-{stem}"]
    assert drawn[0].files == ("learning-last.csv", "learning.csv", "learning.pdf")
    assert drawn[1].files == (f"{stem}-last.csv", f"{stem}.csv", f"{stem}.pdf")
    (grouped,) = build_figures(tmp_path, [TableRequest(split="grouped")])
    assert grouped.anchor == "demo-learning-udcd-digits-grouped"


def test_readers_that_skip_comments_read_a_csv_whole():
    frame = pd.DataFrame({"dataset": ["folder:skin#7b5b", "x"], "ours": ["12.30", ""], "n": [1, 0]})
    data = add_command(format_csv(frame), "udcd-bench run\ntable2")
    assert data.count(b"\n") == 4, "a command is one line, whatever is in it"
    back = pd.read_csv(io.BytesIO(data), comment="#")
    assert back["dataset"].tolist() == ["folder:skin#7b5b", "x"] and back["ours"].isna().tolist() == [
        False,
        True,
    ]
    assert format_csv(frame.drop(columns="dataset")) == "ours,n\n12.30,1\n,0\n"
    for text in (data.decode(), format_csv(frame)):
        assert next(skip_command(io.StringIO(text))).startswith('"dataset"')


@pytest.mark.parametrize(
    ("words", "fix"),
    [
        (("run", "all", "--name=x"), "--name is of one table or figure"),
        (("run", "table2", "--name=a/b"), "give letters, digits"),
    ],
)
def test_a_name_that_cannot_be_one_is_refused(refused, words, fix):
    assert fix in refused(*words)


@pytest.fixture
def refused():
    from click.testing import CliRunner

    def run(*words):
        result = CliRunner().invoke(cli, words)
        assert result.exit_code != 0
        return f"{result.output} {result.exception}"

    return run


def test_the_command_that_is_stored_makes_the_same_file():
    import shlex

    from udcd_bench.cli.run import build_request, run

    asks = [
        ASK,
        TableRequest(rule="best-validation", protocol=(("validation", "0.2"),)),
        TableRequest(marks="largest", plain=True, folds=(0, 2), seeds=(0, 1), name="x", split="grouped"),
    ]
    for ask in asks:
        command = format_artefact_command("run", "table2", ask)
        params = run.make_context("run", shlex.split(command)[2:]).params
        again = build_request(params, params["folds"], tuple(range(params["seeds"])))
        looks = {key: params[key] for key in ("marks", "plain", "name")}
        from dataclasses import replace

        assert replace(again, split=again.split or "paper", **looks) == ask


def test_suites_are_named_by_the_command_and_by_files_that_have_their_rows(own_suites, tmp_path):
    from udcd_bench import plugins

    plain = format_artefact_command("run", "table2", TableRequest())
    plugins.add_suite("modern")
    assert stem() == "table2-suite-modern" and stem(methods=("scratch", "udcd")) == "table2-scratch-udcd"
    assert stem("readings") == "readings", "which has no further rows"
    command = format_artefact_command("run", "table2", TableRequest())
    assert command == plain.replace("udcd-bench ", "udcd-bench --suite modern ")
    (tmp_path / "my rows").mkdir()
    (tmp_path / "my rows" / "mine.py").write_text(
        "class Method:\n    title = 'Mine'\n    citation = 'Me, 2024'\n"
    )
    plugins.add_suite(tmp_path / "my rows")
    assert stem(split="grouped") == "table2-suite-modern-suite-my-rows-grouped"
    command = format_artefact_command("run", "table2", TableRequest())
    assert command == plain.replace("udcd-bench ", "udcd-bench --suite modern --suite 'my rows' ")


def test_a_row_of_another_suite_replaces_no_file_unsaid(own_suites, tmp_path, caplog, monkeypatch):
    ask = TableRequest(methods=("scratch", "mine"), datasets=("digits",))
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "mine.py").write_text(
            "class Method:\n    title = 'Mine'\n    citation = 'Me, 2024'\n"
        )
        monkeypatch.setattr(plugins.suites, "_ADDED_SUITES", [tmp_path / name])
        plugins.find_files.cache_clear()
        results = Results(Store(tmp_path / "results"), {}, {})
        plugins.load_class("tables", "table2")().render(ask, results)
    (said,) = [r.getMessage() for r in caplog.records if "replaced" in r.getMessage()]
    assert "udcd-bench --suite one run table2" in said
