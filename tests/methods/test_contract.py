"""The contract of the content: every file of methods/, tables/, figures/ and of the suites that the package brings.

There is no list to maintain. ``UDCD_BENCH_SUITE=FOLDER`` adds the content of a suite of one's own.
"""

from __future__ import annotations

import ast
import math
import re
from dataclasses import fields
from functools import cache
from typing import NamedTuple

import pytest
import torch

from support import factories, suites
from udcd_bench import plugins
from udcd_bench.artefacts.figure import Figure
from udcd_bench.artefacts.table import Table
from udcd_bench.errors import UserError
from udcd_bench.grid.cells import TableRequest, parse_row_method
from udcd_bench.method import FAMILIES, BaseMethod, Progress
from udcd_bench.paper import published
from udcd_bench.runs import planner
from udcd_bench.runs.profiles import PROFILES, Protocol
from udcd_bench.runs.spec import RunSpec
from udcd_bench.training.trainer import Trainer

with suites.use_shipped(suites.OWN):
    METHODS = plugins.list_names("methods")
    TABLES = plugins.list_names("tables")
    FIGURES = plugins.list_names("figures")
    CONTENT = [(kind, name) for kind in plugins.CONTENT_CLASSES for name in plugins.list_names(kind)]
BASES = {"methods": BaseMethod, "tables": Table, "figures": Figure}
LONGEST = 130
"""Lines of a method file, blank ones left out; one that needs more hides mathematics that belongs to losses."""

pytestmark = pytest.mark.usefixtures("every_suite")
every_method = pytest.mark.parametrize("name", METHODS)
every_file = pytest.mark.parametrize(("kind", "name"), CONTENT)


@pytest.fixture
def every_suite(shipped_suites):
    for folder in suites.OWN:
        plugins.add_suite(folder)


@pytest.fixture(scope="module")
def data():
    return factories.dataset()


# --- what stands in the file ---------------------------------------------------------------------------------


def test_there_is_content():
    assert {"scratch", "mtg", "kd", "udcd"} <= set(METHODS) and "table2" in TABLES
    assert {"tsne", "scarcity", "ablation", "backbones"} <= set(FIGURES)


@every_file
def test_attributes_are_literals_and_what_is_executed_agrees_with_them(kind, name):
    cls, declared = plugins.load_class(kind, name), plugins.read_attributes(kind, name)
    assert issubclass(cls, BASES[kind])
    for key, value in declared.items():
        if key != "doc":
            assert getattr(cls, key) == value
    assert declared["title"].strip()


@every_file
def test_the_docstring_says_how_it_differs(kind, name):
    doc = plugins.read_attributes(kind, name)["doc"]
    said = re.search(r"^Differs from [^\n:]+:(.+)", doc, re.MULTILINE | re.DOTALL)
    assert said, "no list headed 'Differs from …:'"
    assert said[1].strip()
    numbers = [int(n) for n in re.findall(r"^(\d+)\. ", said[1], re.MULTILINE)]
    assert all(n in (1, before + 1) for before, n in zip([0, *numbers], numbers)), numbers


@every_method
def test_its_family_is_one_that_lists_know(name):
    suite = plugins.suites.find_content("methods", name).suite
    family = plugins.read_attributes("methods", name).get("family", "")
    if suite.folder == plugins.find_root():
        assert not family
    else:
        is_shipped = suite.folder in plugins.list_shipped_suites().values()
        assert family in FAMILIES or (not family and not is_shipped)


@every_method
def test_its_own_numbers_of_the_protocol_are_numbers_of_the_protocol(name):
    for key, value in plugins.read_attributes("methods", name).get("protocol", {}).items():
        assert type(value) is type(getattr(Protocol(), key))


@every_method
def test_the_docstring_names_authors_year_and_link(name):
    about = plugins.read_attributes("methods", name)
    author = re.match(r"[^\W\d_][\w'-]+", about["citation"])
    year = re.search(r"\b(?:19|20)\d\d\b", about["citation"])
    assert author and author[0] in about["doc"], "the first author of the citation"
    assert year and year[0] in about["doc"], "the citation's year"
    assert re.search(r"https?://\S+", about["doc"]), "a link"


@every_method
def test_every_hyper_parameter_has_its_source_beside_it(name):
    sources = plugins.read_comments("methods", name, "hparams")
    for key in plugins.read_attributes("methods", name).get("hparams", {}):
        assert re.match(r"[PROS]\b", sources.get(key, "")), (
            f"{key}: {sources.get(key)!r} is none of P, R, O, S"
        )


@every_method
def test_hyper_parameters_that_are_words_have_choices_and_none_is_a_number_of_the_protocol(name):
    about = plugins.read_attributes("methods", name)
    hparams, choices = about.get("hparams", {}), about.get("choices", {})
    assert set(choices) <= set(hparams)
    for key, value in hparams.items():
        assert not isinstance(value, str) or key in choices, f"{key} is a word without choices"
        assert key not in choices or value in choices[key], f"the default of {key} is none of its choices"
    assert not set(hparams) & {f.name for f in fields(Protocol)}


@every_method
def test_an_unknown_override_is_refused(name, data):
    spec = RunSpec(name, "digits", "demo", factories.TINY_DENSENET, hparams=(("no_such_thing", "1"),))
    with pytest.raises(UserError, match="no_such_thing"):
        planner.normalize_spec(spec)
    with pytest.raises(UserError, match="no_such_thing"):
        factories.method(name, factories.resident(data), student=factories.SmallNet, no_such_thing="1")


@every_method
def test_a_method_file_is_equations(name):
    path = plugins.find_file("methods", name)
    text = path.read_text()
    tree = ast.parse(text)
    assert sum(1 for line in text.splitlines() if line.strip()) <= LONGEST
    assert "optim" not in {word for node in ast.walk(tree) for word in _names(node)}, (
        "the loop has the optimiser"
    )
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            called = node.func
            if isinstance(called, ast.Attribute):
                assert called.attr not in {"item", "cuda", "train", "eval", "backward", "tolist"}, called.attr
            if isinstance(called, ast.Name):
                assert called.id != "print"


def _names(node):
    if isinstance(node, ast.Attribute):
        yield node.attr
    elif isinstance(node, ast.Name):
        yield node.id
    elif isinstance(node, ast.Import | ast.ImportFrom):
        yield from (part for alias in node.names for part in alias.name.split("."))
        yield from (getattr(node, "module", None) or "").split(".")


@pytest.mark.parametrize("name", TABLES)
def test_a_table_is_named_as_its_file_and_its_rows_are_printed(name):
    cls = plugins.load_class("tables", name)
    assert cls.name == name
    printed = published.load_table(name) if published.find_csv(name) else ()
    assert {figure.method for figure in printed} <= set(cls.rows)
    assert {parse_row_method(row) for row in cls.rows} <= set(METHODS)


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_is_named_as_its_file_and_its_runs_exist_in_every_profile(name):
    figure = plugins.load_class("figures", name)()
    assert figure.name == name and figure.measured.endswith(".") and figure.shown
    for profile in PROFILES:
        specs = figure.list_runs(TableRequest(profile))
        assert specs and len({spec.format_label() for spec in specs}) == len(specs)
        assert all(planner.normalize_spec(spec) == spec for spec in specs)
    with pytest.raises(UserError, match="no method 'udcb'; did you mean 'udcd'"):
        figure.list_runs(TableRequest(methods=("udcb",)))


# --- what it computes -----------------------------------------------------------------------------------------


class Step(NamedTuple):
    """One step of a stage, seen from outside.

    modes: of every module before and after the step. gradients: parameter → (whether the stage trains it, gradient).
    """

    stage: str
    terms: dict[str, torch.Tensor]
    modes: tuple[list[bool], list[bool]]
    gradients: dict[str, tuple[bool, torch.Tensor | None]]


def take_steps(name, data, seed=0):
    """One step of each stage of a method built afresh, modes set as the loop sets them."""
    train = factories.resident(data)
    method = factories.method(name, train, seed=seed)
    trainer = Trainer(method, factories.protocol(), train, factories.resident(data))
    steps = []
    for stage in method.stages():
        trainer.set_modes(stage)
        before = [module.training for module in method.modules()]
        method.zero_grad(set_to_none=True)
        batch = next(train.iterate_batches(factories.BATCH, stage.views))
        terms = stage.compute_losses(batch, Progress(2, 3, 1, 2))
        sum(terms.values()).backward()
        trained = {id(p) for module in stage.trained_modules for p in module.parameters() if p.requires_grad}
        gradients = {label: (id(p) in trained, p.grad) for label, p in method.named_parameters()}
        with torch.no_grad():
            method.after_step()
        modes = before, [module.training for module in method.modules()]
        terms = {key: value.detach() for key, value in terms.items()}
        steps.append(Step(stage.name, terms, modes, gradients))
    return steps


@pytest.fixture(scope="module")
def stepped(data):
    """Name → the steps of that method, taken once for the tests that look at them."""
    return cache(lambda name: take_steps(name, data))


@every_method
def test_terms_are_finite_named_scalars(name, stepped):
    for step in stepped(name):
        assert step.terms
        for term, value in step.terms.items():
            assert re.fullmatch(r"[a-z0-9_]+", term)
            assert value.shape == () and value.dtype == torch.float32 and torch.isfinite(value), term
    assert [step.stage for step in stepped(name)] == list(plugins.load_class("methods", name).stage_shares)


@every_method
def test_gradient_reaches_all_that_is_trained_and_nothing_else(name, stepped):
    for step in stepped(name):
        assert any(is_trained for is_trained, _ in step.gradients.values())
        for label, (is_trained, gradient) in step.gradients.items():
            if is_trained:
                assert gradient is not None, f"stage {step.stage}: no gradient reaches {label}"
                assert torch.isfinite(gradient).all() and gradient.any(), label
            else:
                assert gradient is None, f"stage {step.stage}: {label} rests and has a gradient"
        if plugins.load_class("methods", name).teacher not in (None, "own"):
            teachers = {k: v for k, v in step.gradients.items() if k.startswith("teacher_network.")}
            assert teachers and all(gradient is None for _, gradient in teachers.values())


@every_method
def test_a_step_leaves_the_modes_alone(name, stepped):
    for step in stepped(name):
        before, after = step.modes
        assert before == after


@every_method
def test_before_the_start_epoch_the_terms_are_finite_too(name, data):
    train = factories.resident(data)
    method = factories.method(name, train)
    trainer = Trainer(method, factories.protocol(), train, factories.resident(data))
    for stage in method.stages():
        trainer.set_modes(stage)
        terms = stage.compute_losses(
            next(train.iterate_batches(factories.BATCH, stage.views)), Progress(0, 3, 1, 2)
        )
        assert terms and all(torch.isfinite(value) for value in terms.values())
        sum(terms.values()).backward()


@every_method
def test_the_same_seed_gives_the_same_loss_and_another_does_not(name, data, stepped):
    def values(steps):
        return [{k: v.item() for k, v in step.terms.items()} for step in steps]

    first = values(stepped(name))
    assert first == values(take_steps(name, data)) != values(take_steps(name, data, seed=1))


@every_method
def test_a_method_trains(name):
    """On 24 images: a whole batch and a smaller one, without the teacher's terms and with them."""
    data, size = factories.dataset(24), 16
    train, test = factories.resident(data), factories.resident(data)
    method = factories.method(name, train)
    before = {key: value.clone() for key, value in method.student.state_dict().items()}
    rows = []
    protocol = factories.protocol(epochs=2, report_epochs=1, batch_size=size)
    outcome = Trainer(method, protocol, train, test, on_epoch_end=rows.append).run()
    assert outcome.history == rows and len(rows) >= 2
    assert all(math.isfinite(value) for row in rows for key, value in row.items() if key.startswith("loss"))
    assert outcome.scores.shape == (1, len(data.labels), 4) and outcome.epochs == [outcome.epochs[-1]]
    assert outcome.embeddings.shape[0] == len(data.labels)
    after = method.student.state_dict()
    assert any(not torch.equal(before[key], after[key]) for key in before)
    # what the store keeps as the student is what was tested
    with torch.inference_mode():
        method.eval()
        again = torch.cat([method.predict(images).logits for images in test.iterate_images(2 * size)])
    assert torch.equal(again, torch.from_numpy(outcome.scores[-1]))
