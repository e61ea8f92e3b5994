"""Tables from records: what they ask for, what they say of what is missing, and how they are set."""

from __future__ import annotations

import io
import json
import math
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from support import records as make
from support.sheets import frame_of, sheet_of
from udcd_bench import plugins
from udcd_bench.artefacts.table import COLUMNS, TableRequest
from udcd_bench.data import sources
from udcd_bench.errors import UserError
from udcd_bench.grid import cells
from udcd_bench.paper import published
from udcd_bench.render import markdown, picture
from udcd_bench.render.latex import escape_latex, render_latex
from udcd_bench.render.picture import render_png
from udcd_bench.render.sheet import DASH, format_table_csv
from udcd_bench.runs.results import Results
from udcd_bench.runs.spec import REVISION, RunSpec
from udcd_bench.runs.store import Store

PRINTED_DPI = picture.DPI
GOLDENS = Path(__file__).parents[1] / "goldens" / "table2"
WRITE = os.environ.get("UDCD_BENCH_GOLDEN") == "write"
SPECIAL = r"50% & {_mine_} #1 $x^2$ ~\λ, é, “q”, --set, 皮"

SUITE = {
    "kd": ("KD", '"trained"', "{'temperature': 4.0}"),
    "mine": (SPECIAL, "None", "{}"),
    "mtg": ("MTG", '"ema"', "{}"),
    "scratch": ("Scratch", "None", "{}"),
    "udcd": ("UDCD", '"ema"', "{'lambda_kl': 1.0, 'confidence': 'equation'}"),
}
TITLES = {
    "aptos": "APTOS 2019",
    "ham10000": "HAM10000",
    "synthetic-fundus": "fundus (synthetic stand-in)",
    "synthetic-lesions": "lesions (synthetic stand-in)",
    "folder:my_images": "my_images",
}


@pytest.fixture
def table(tmp_path, monkeypatch):
    """Table 2 in a suite of five methods, so that a method more in the real one changes no golden."""
    root = tmp_path / "suite"
    (root / "methods").mkdir(parents=True)
    for name, (title, teacher, hparams) in SUITE.items():
        body = f"class Method:\n    title = {title!r}\n    teacher = {teacher}\n    hparams = {hparams}\n"
        (root / "methods" / f"{name}.py").write_text(body, encoding="utf-8")
    shutil.copytree(
        plugins.find_root() / "tables", root / "tables", ignore=shutil.ignore_patterns("__pycache__")
    )

    def title(name):
        if name not in TITLES:
            raise UserError(f"Unknown data set {name!r}")
        return TITLES[name]

    for module in (plugins, plugins.suites):
        monkeypatch.setattr(module, "find_root", lambda: root)
    monkeypatch.setattr(sources, "find_title", title)
    return plugins.load_class("tables", "table2")()


def rendered(table, ask, out, changes=None, missing=(), failed=()):
    specs = table.list_runs(ask)
    found = {spec: make.record(spec, **(changes or {})) for spec in specs}
    states = dict.fromkeys(specs, "done")
    for spec in specs:
        if spec.method in missing or spec.method in failed:
            del found[spec]
            states[spec] = "failed: FloatingPointError: ce is\nnan" if spec.method in failed else "absent"
    return table.render(ask, Results(Store(out), found, states))


# --- goldens ---------------------------------------------------------------------------------------------

CASES = {
    "demo": TableRequest("demo", backbone="tiny", marks="largest"),
    "paper": TableRequest("paper", folds=(0, 1), seeds=(0, 1), backbone="densenet121"),
}


@pytest.mark.parametrize("case", CASES)
def test_table2_from_stored_records_is_as_it_was(table, case, tmp_path):
    """Some of the paper case's runs failed or are not there; see the stored records."""
    stored = GOLDENS / f"{case}.records.json"
    ask = CASES[case]
    if WRITE and not stored.exists():
        lost = {("mtg", "aptos"), ("udcd", "ham10000")}
        kept = [s for s in table.list_runs(ask) if (s.method, s.dataset) not in lost or s.fold + s.seed == 0]
        kept = [s for s in kept if (s.method, s.dataset) != ("mine", "aptos")]
        changes = {"incomplete": "3 of 10015 images were left out"} if case == "paper" else {}
        text = json.dumps([make.record(spec, **changes) for spec in kept], indent=1)
        stored.write_text(text + "\n", encoding="utf-8")
    # they stand for runs of this revision, whichever it is
    kept = [r | {"revision": REVISION} for r in json.loads(stored.read_text(encoding="utf-8"))]
    found = {RunSpec.from_dict(r["spec"]): r for r in kept}
    states = {
        spec: "done" if spec in found else "failed: OutOfMemoryError" if spec.method == "mine" else "absent"
        for spec in table.list_runs(ask)
    }
    got = table.render(ask, Results(Store(tmp_path), found, states))
    texts = {path.suffix: path.read_bytes() for path in got.files if path.suffix != ".png"}
    for suffix, data in {**texts, ".txt": got.text.encode()}.items():
        golden = GOLDENS / f"{case}{suffix}"
        if WRITE:
            golden.write_bytes(data)
        assert data == golden.read_bytes(), f"{golden.name} changed; `nox -s golden` rewrites it"


# --- what is asked for -----------------------------------------------------------------------------------


def test_runs_are_the_methods_there_are_on_the_profiles_data(table):
    runs = table.list_runs(TableRequest("demo"))
    assert [(r.method, r.dataset) for r in runs[:5]] == [
        (method, "synthetic-fundus") for method in ("scratch", "mtg", "udcd", "kd", "mine")
    ]
    assert len(runs) == len(set(runs)) == 10
    assert {r.backbone for r in runs} == {"densenet-tiny"}
    assert {r.dataset for r in table.list_runs(TableRequest("paper"))} == {"aptos", "ham10000"}


def test_folds_seeds_split_and_overrides_reach_every_run(table):
    ask = TableRequest(
        "paper", folds=(0, 3), seeds=(0, 7), split="grouped", protocol=(("epochs", "4"),), backbone="resnet50"
    )
    runs = table.list_runs(ask)
    assert len(runs) == 5 * 2 * 4
    assert {(r.fold, r.seed) for r in runs} == {(0, 0), (0, 7), (3, 0), (3, 7)}
    assert {(r.split, r.backbone, r.protocol) for r in runs} == {("grouped", "resnet50", (("epochs", 4),))}


def test_a_hyper_parameter_goes_to_the_methods_that_have_it(table):
    runs = table.list_runs(TableRequest("demo", hparams=(("lambda_kl", "2"),)))
    assert {(r.method, r.hparams) for r in runs if r.hparams} == {("udcd", (("lambda_kl", 2.0),))}
    with pytest.raises(UserError, match="did you mean 'lambda_kl'"):
        table.list_runs(TableRequest("demo", hparams=(("lamda_kl", "2"),)))


def test_only_a_method_with_a_trained_teacher_has_another_backbone_for_it(table):
    runs = table.list_runs(TableRequest("demo", teacher_backbone="resnet18"))
    assert {r.method for r in runs if r.teacher_backbone} == {"kd"}


def test_methods_and_data_sets_can_be_chosen(table):
    ask = TableRequest(
        "paper", methods=("udcd", "scratch"), datasets=("ham10000", "folder:my_images", "ham10000")
    )
    assert [(r.method, r.dataset) for r in table.list_runs(ask)] == [
        ("scratch", "ham10000"),
        ("udcd", "ham10000"),
        ("scratch", "folder:my_images"),
        ("udcd", "folder:my_images"),
    ]
    demo = TableRequest("demo", datasets=("ham10000", "synthetic-lesions"))
    assert {r.dataset for r in table.list_runs(demo)} == {"synthetic-lesions"}


def test_what_does_not_exist_is_told_with_the_nearest(table):
    with pytest.raises(UserError, match="'scrach'; did you mean 'scratch'"):
        table.list_runs(TableRequest("demo", methods=("scrach",)))
    with pytest.raises(UserError, match="Unknown data set 'ham1000'"):
        table.list_runs(TableRequest("demo", datasets=("ham1000",)))
    with pytest.raises(UserError, match="did you mean 'demo'"):
        table.list_runs(TableRequest("dmo"))


def test_a_row_of_the_paper_the_suite_lacks_can_be_asked_for_and_needs_no_run(table, tmp_path):
    ask = TableRequest("demo", methods=("rkd",))
    assert table.list_runs(ask) == []
    got = table.render(ask, Results(Store(tmp_path), {}, {}))
    assert set(got.frame["verdict"]) == {"not in the suite yet"}
    assert "RKD [a]" in got.text and "not in the suite yet" in got.text


# --- what is built ---------------------------------------------------------------------------------------


def test_the_long_frame(table, tmp_path):
    got = rendered(table, TableRequest("paper", folds=(0, 1)), tmp_path)
    frame = got.frame
    assert tuple(frame.columns[: len(COLUMNS)]) == COLUMNS
    assert len(frame) == 2 * (9 + 2) * 4
    assert list(dict.fromkeys(frame["method"])) == [*table.rows, "kd", "mine"]
    row = frame[(frame["dataset"] == "aptos") & (frame["method"] == "mtg") & (frame["metric"] == "f1")].iloc[
        0
    ]
    specs = [
        s
        for s in table.list_runs(TableRequest("paper", folds=(0, 1)))
        if (s.method, s.dataset) == ("mtg", "aptos")
    ]
    a, b = (100 * make.record(spec)["figures"]["mean"]["f1"] for spec in specs)
    assert (row["published"], row["n"], row["n_folds"], row["n_seeds"]) == (69.76, 2, 2, 1)
    assert row["verdict"] == "impossible", "the paper's F1 of this row contradicts it"
    rest = frame[frame["published"].notna() & (frame["n"] > 0) & (frame["method"] != "mtg")]
    assert set(rest["verdict"]) == {"underpowered"}, "without scores there is no interval"
    assert frame[["low", "high", "spread_seeds"]].isna().all().all()
    assert row["ours"] == pytest.approx((a + b) / 2)
    assert row["spread"] == row["spread_folds"] == pytest.approx(abs(a - b) / math.sqrt(2))
    assert set(frame.loc[frame["method"] == "kd", "verdict"]) == {"no counterpart"}
    assert frame.loc[frame["method"].isin(["kd", "mine"]), "published"].isna().all()
    absent = frame[frame["method"] == "rkd"]
    assert set(absent["verdict"]) == {"not in the suite yet"}
    assert absent["published"].notna().all() and absent["ours"].isna().all()


def test_the_reporting_rule_chooses_the_figures(table, tmp_path):
    mean, best = (rendered(table, TableRequest("demo", rule=rule), tmp_path) for rule in ("mean", "best"))
    assert not mean.frame["ours"].equals(best.frame["ours"])
    assert "mean over the last 2 epochs" in mean.text
    assert "optimistic" in best.text and "mean over" not in best.text


def test_one_run_gives_no_spread_and_says_so(table, tmp_path):
    got = rendered(table, TableRequest("demo"), tmp_path)
    assert got.frame["spread"].isna().all()
    assert "n = 1, so there is no spread" in " ".join(got.text.split())
    assert "±" not in got.text


def test_nothing_from_a_synthetic_set_can_pass_for_the_real_one(table, tmp_path):
    got = rendered(table, TableRequest("demo"), tmp_path)
    assert got.frame["published"].isna().all()
    assert set(got.frame.loc[got.frame["n"] > 0, "verdict"]) == {"synthetic stand-in"}
    assert set(got.frame["dataset"]) == {"synthetic-fundus", "synthetic-lesions"}
    texts = [path.read_text(encoding="utf-8") for path in got.files if path.suffix != ".png"]
    with Image.open(got.files[2]) as png:
        texts.append(png.text["Description"])
    for text in [*texts, got.text]:
        assert "synthetic stand-in" in text.lower()
        assert not re.search("HAM10000|APTOS", text)


def test_a_stand_in_outside_the_demo_says_so_beside_real_data(table, tmp_path):
    got = rendered(table, TableRequest("quick", datasets=("ham10000", "synthetic-lesions")), tmp_path)
    by_set = got.frame.groupby("dataset")["published"].count()
    assert by_set["ham10000"] == 36 and by_set["synthetic-lesions"] == 0
    assert "the images of synthetic-lesions are drawn" in " ".join(got.text.split())


def test_a_record_that_says_synthetic_gets_no_published_figure(table, tmp_path):
    got = rendered(table, TableRequest("paper"), tmp_path, {"synthetic": True})
    ours = got.frame[got.frame["n"] > 0]
    assert ours["published"].isna().all() and set(ours["verdict"]) == {"synthetic stand-in"}


def test_no_run_at_all_still_makes_a_table(table, tmp_path):
    got = rendered(table, TableRequest("demo"), tmp_path, missing=tuple(SUITE))
    assert set(got.frame["verdict"]) == {"not run", "not in the suite yet"}
    assert "None of 10 runs is done" in got.text
    assert all(path.stat().st_size for path in got.files)


def test_a_failed_run_is_named_where_it_is_missing(table, tmp_path):
    got = rendered(table, TableRequest("demo"), tmp_path, missing=("udcd",), failed=("mtg",))
    by = got.frame.set_index("method")["verdict"]
    assert set(by["mtg"]) == {"failed"} and set(by["udcd"]) == {"not run"}
    assert re.search(r"^MTG \[a\]( +failed)+$", got.text, re.M)
    assert "[a] The run failed: FloatingPointError: ce is nan" in got.text
    assert "FloatingPointError: ce is nan" in got.files[1].read_text()
    assert "6 of 10 runs are done" in " ".join(got.text.split())


def test_a_cell_with_fewer_runs_says_how_many(table, tmp_path):
    ask = TableRequest("paper", folds=(0, 1, 2), methods=("scratch", "udcd"))
    specs = table.list_runs(ask)
    lost = [s for s in specs if s.method == "udcd" and s.dataset == "aptos" and s.fold]
    found = {s: make.record(s) for s in specs if s not in lost}
    got = table.render(
        ask, Results(Store(tmp_path), found, {lost[0]: "failed: KeyError", lost[1]: "interrupted"})
    )
    notes = set(got.frame.loc[(got.frame["method"] == "udcd") & (got.frame["dataset"] == "aptos"), "note"])
    assert notes == {"n = 1 of 3 runs. 1 of 3 runs failed: KeyError"}
    assert "n = 1–3" in " ".join(got.text.split()) and "[a] n = 1 of 3 runs." in got.text


def test_rows_tested_on_other_images_are_told(table, tmp_path):
    ask = TableRequest("demo")
    found = {spec: make.record(spec) for spec in table.list_runs(ask)}
    assert "split hashes differ" not in table.render(ask, Results(Store(tmp_path), found, {})).text
    last = list(found)[-1]
    found[last] = make.record(last, split_hash="ffff")
    assert "split hashes differ" in table.render(ask, Results(Store(tmp_path), found, {})).text


def test_an_incomplete_data_set_is_told_everywhere(table, tmp_path):
    got = rendered(table, TableRequest("demo"), tmp_path, {"incomplete": "7 images were left out."})
    with Image.open(got.files[2]) as png:
        about = png.text["Description"]
    for text in (got.text, about, *(path.read_text(encoding="utf-8") for path in got.files[:2])):
        assert "7 images were left out" in text
        assert "out.." not in text


def test_squashed_copies_are_told_in_every_caption(table, tmp_path):
    got = rendered(table, TableRequest("demo"), tmp_path, {"copies": "128 px copies"})
    with Image.open(got.files[2]) as png:
        about = png.text["Description"]
    for text in (got.text, about, got.files[1].read_text(encoding="utf-8")):
        assert "(128 px copies): 800 training" in " ".join(text.split())


@pytest.mark.slow
def test_a_table_is_drawn_without_a_tensor_library():
    code = (
        "import sys; from udcd_bench import plugins; from udcd_bench.artefacts import table as artefact;"
        "from udcd_bench.render import latex, picture;"
        "table = plugins.load_class('tables', 'table2')();"
        "from pathlib import Path; from udcd_bench.runs.results import Results;"
        "from udcd_bench.runs.store import Store;"
        "ask, none = artefact.TableRequest('demo'), Results(Store(Path('none')), {}, {});"
        "picture.render_png(table.build_sheet(ask, none, table.build_frame(ask, none))); table.list_runs(ask);"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])


def test_spreads_between_folds_and_between_seeds_stay_apart():
    nan = pytest.approx(math.nan, nan_ok=True)
    assert cells.summarize_values({}) == (nan, nan, nan, 0, 0, 0)
    assert cells.summarize_values({(0, 0): 1.5}) == (1.5, nan, nan, 1, 1, 1)
    folds = cells.summarize_values({(0, 0): 1.0, (1, 0): 3.0})
    assert folds == (2.0, pytest.approx(math.sqrt(2)), nan, 2, 2, 1) and folds.spread == folds.folds
    seeds = cells.summarize_values({(0, 0): 1.0, (0, 1): 3.0})
    assert seeds == (2.0, nan, pytest.approx(math.sqrt(2)), 2, 1, 2) and seeds.spread == seeds.seeds
    # folds 10 apart, seeds 2 apart within each
    both = cells.summarize_values({(0, 0): 10.0, (0, 1): 12.0, (1, 0): 20.0, (1, 1): 22.0})
    assert both == (16.0, pytest.approx(10 / math.sqrt(2)), pytest.approx(math.sqrt(2)), 4, 2, 2)
    assert both.spread == both.folds


@pytest.mark.parametrize(
    ("folds", "seeds", "shown", "says"),
    [
        ((0, 1), (0,), r" ±\d+\.\d\d[*+\s]", "deviation between folds."),
        ((0,), (0, 1), r" ±\d+\.\d\d[*+\s]", "deviation between seeds of one fold."),
        (
            (0, 1),
            (0, 1),
            r" ±\d+\.\d\d/\d+\.\d\d[*+\s]",
            "a between folds (of the seeds' means), b between seeds of one fold.",
        ),
    ],
)
def test_the_caption_says_which_spread_is_which(table, tmp_path, folds, seeds, shown, says):
    got = rendered(table, TableRequest("paper", folds=folds, seeds=seeds), tmp_path)
    assert len(re.findall(shown, got.text)) == 2 * 5 * 4 and "±" in got.text
    assert says in " ".join(got.text.split())
    latex_, markdown_ = (got.files[place].read_text(encoding="utf-8") for place in (1, 3))
    both = "/" in shown
    assert (
        bool(re.search(r"\$\\pm\$\\,\d+\.\d\d/", latex_))
        == both
        == bool(re.search(r"±\d+\.\d\d/", markdown_))
    )


def test_where_one_of_two_spreads_is_missing_stands_a_dash(table, tmp_path):
    ask = TableRequest("paper", folds=(0, 1), seeds=(0, 1), datasets=("aptos",))
    found = {s: make.record(s) for s in table.list_runs(ask) if s.method != "kd" or s.fold == 0}
    found = {s: r for s, r in found.items() if s.method != "scratch" or s.seed == 0}
    got = table.render(ask, Results(Store(tmp_path), found, {}))
    kd, scratch = (re.search(rf"^{title} .*", got.text, re.M)[0] for title in ("KD", "Scratch"))
    assert kd.count("±–/") == scratch.count("/–") == 4
    assert (
        "±\\textendash" not in (text := got.files[1].read_text(encoding="utf-8"))
        and r"\textendash{}/" in text
    )


# --- how it is set ---------------------------------------------------------------------------------------


def test_a_figure_that_does_not_exist_is_a_dash():
    sheet = sheet_of(frame_of({"x": {"acc": 80.0}, "y": {"acc": math.nan}}))
    assert sheet.bands[0].rows[1].blocks[0][0].text == DASH


def test_many_groups_stack_in_bands():
    frame = pd.concat([frame_of({"x": {"acc": 80.0}}, name) for name in "abcde"])
    sheet = sheet_of(frame)
    assert [band.groups for band in sheet.bands] == [("a", "b"), ("c", "d"), ("e",)]
    assert render_latex(sheet).count(r"\multicolumn{1}{c}") == 5
    assert (
        Image.open(io.BytesIO(render_png(sheet))).size[1]
        > Image.open(io.BytesIO(render_png(sheet_of(frame[:2])))).size[1]
    )


def test_csv_reads_back_whatever_the_names_hold():
    frame = frame_of({'a, "b"\n; c': {"acc": 80.126}})
    back = pd.read_csv(io.StringIO(format_table_csv(frame)))
    assert back["method"].tolist() == ['a, "b"\n; c']
    assert back["ours"].tolist() == [80.13]


def test_latex_specials_are_escaped():
    assert escape_latex("50% & {_x_} #1 $ ~ ^ \\") == (
        r"50\% \& \{\_x\_\} \#1 \$ \textasciitilde{} \textasciicircum{} \textbackslash{}"
    )
    assert escape_latex("a\n b\tc") == "a b c"
    assert escape_latex("[x] *") == "{[}x] {*}"
    assert escape_latex("--set ρ é 皮") == r"-{}-set $\rho$ \'{e} {[}U+76AE]"


def test_the_picture_is_large_enough_to_print(table, tmp_path, monkeypatch):
    monkeypatch.setattr(picture, "DPI", PRINTED_DPI)
    got = rendered(table, TableRequest("demo"), tmp_path)
    with Image.open(got.files[2]) as png:
        assert png.info["dpi"][0] == pytest.approx(250, abs=1)
        assert min(png.size) > 900
        # the warning stands in the picture itself, in its own colour
        colours = {colour for _, colour in png.convert("RGB").getcolors(1 << 20)}
    assert (160, 32, 0) in colours


def test_markdown_is_a_table_of_its_own_for_each_group(table, tmp_path):
    got = rendered(table, TableRequest("paper", marks="largest"), tmp_path, failed=("udcd",))
    text = got.files[3].read_text(encoding="utf-8")
    assert got.files[3].name == "table2.md"
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows} == {6}
    assert rows.count("| :-- | --: | --: | --: | --: |") == 2
    assert len(re.findall(r"\*\*\d", text)) == len(re.findall(r"<u>\d", text)) == 8
    assert "| *published* | *83.13* | *70.34* |" in text
    assert re.search(r"^\| UDCD<sup>\w</sup> \| failed", text, re.M)
    *_, caption, _, command = text.splitlines()
    assert caption.startswith("Bold: the best of these figures, underlined: the second")
    assert command == "Made by udcd-bench run table2 --profile paper --marks largest"
    assert r"50% &amp; \{\_mine\_\} \#1 x^2" in text.replace("\\$", "")


def test_markdown_and_html_are_escaped():
    assert markdown.escape_markdown("a|b <u>_x_</u> *y* `z` & \\\n q") == (
        r"a\|b &lt;u&gt;\_x\_&lt;/u&gt; \*y\* \`z\` &amp; \\ q"
    )


def balanced(text: str) -> bool:
    """Whether braces and environments of LaTeX close in order."""
    body = re.sub(r"(?<!\\)%.*", "", text)
    depth = 0
    for token in re.findall(r"\\.|[{}]", body):
        depth += {"{": 1, "}": -1}.get(token, 0)
        if depth < 0:
            return False
    open_ = []
    for kind, name in re.findall(r"\\(begin|end)\{(\w+)\}", body):
        if kind == "begin":
            open_.append(name)
        elif not open_ or open_.pop() != name:
            return False
    return depth == 0 and not open_


HOST = r"""\documentclass[twocolumn]{article}
\usepackage{booktabs}%s
\begin{document}
Before.
\input{one.tex}
\input{two.tex}
After.
\end{document}
"""


def test_the_latex_compiles_alone_and_inside_another_document(table, tmp_path):
    asks = {"one": TableRequest("demo"), "two": TableRequest("paper", folds=(0, 1), seeds=(0, 1))}
    for name, ask in asks.items():
        got = rendered(table, ask, tmp_path / name, failed=("mtg",), missing=("kd",))
        text = got.files[1].read_text(encoding="utf-8")
        assert balanced(text[text.index(r"\begin{table}") :])
        (tmp_path / f"{name}.tex").write_text(text, encoding="utf-8")
    if not shutil.which("pdflatex"):
        pytest.skip("no pdflatex here: braces and environments were checked, nothing was compiled")
    (tmp_path / "host.tex").write_text(HOST % "")
    (tmp_path / "shrunk.tex").write_text(HOST % r"\usepackage{graphicx}")
    for name in ("one", "two", "host", "shrunk"):
        command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", f"{name}.tex"]
        ran = subprocess.run(
            command, cwd=tmp_path, capture_output=True, text=True, errors="replace", check=False
        )
        assert ran.returncode == 0, ran.stdout[-2000:]
        assert (tmp_path / f"{name}.pdf").exists()
        assert "incomplete" not in ran.stdout
        if name != "host":
            assert "Overfull" not in ran.stdout


def test_balance_is_seen():
    good = r"\begin{table}\textbf{a\}}\end{table}"
    for text, expected in (
        (good, True),
        (good.replace(r"\}}", "}}"), False),
        (good.replace("n{table}", "n{tab}"), False),
    ):
        assert balanced(text) == expected


def test_every_published_figure_of_table2_has_a_place(table, tmp_path):
    frame = rendered(table, TableRequest("paper"), tmp_path).frame
    assert int(frame["published"].count()) == len(published.load_table("table2"))


def test_specs_in_a_cell_are_those_of_the_runs(table):
    ask = TableRequest("demo", folds=(0, 1))
    assert replace(table.list_runs(ask)[0], fold=1) in table.list_runs(ask)


def test_a_caption_says_the_size_of_the_images_and_the_epochs(table, tmp_path):
    got = rendered(table, TableRequest("demo"), tmp_path, {"protocol": {"image_size": 64, "epochs": 10}})
    assert "Profile demo: 64×64 pixels, 10 epochs, densenet-tiny" in " ".join(got.text.split())
