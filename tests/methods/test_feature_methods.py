"""The methods that read feature maps: their terms written out, the authors' fusion, teachers of another depth."""

from __future__ import annotations

import functools
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from support import factories
from udcd_bench import losses, plugins
from udcd_bench import method as method_module
from udcd_bench.method import Progress
from udcd_bench.training.backbones import TINY_BACKBONES
from udcd_bench.training.network import Features

pytestmark = pytest.mark.usefixtures("shipped_suites")
NAMES = ("fitnet", "at", "sp", "pkt", "reviewkd")
GOLDEN = Path(__file__).parents[1] / "goldens" / "reviewkd_fusion.npz"
CONTRIBUTING = Path(__file__).parents[2] / "CONTRIBUTING.md"
LATE = Progress(3, 4, 1, 2)


def compute(name, progress=LATE, **hparams):
    """(method, batch, its terms) of networks at rest, so that a second pass gives the same."""
    method = factories.ready_method(name, teacher_backbone="efficientnet-tiny", **hparams).eval()
    batch = factories.batch()
    return method, batch, method.compute_losses(batch, progress)


def pairs_of_levels(method, batch):
    """(student's, teacher's) maps at equal depths, the deepest first, at one size."""
    student, teacher = method.student(batch.views[0]), method.run_teacher(batch.views[0])
    assert (len(student.levels), len(teacher.levels)) == (5, 4)
    return [losses.average_to_smaller(*pair) for pair in zip(student.levels[::-1], teacher.levels[::-1])]


@pytest.mark.parametrize("name", NAMES)
def test_the_cross_entropy_is_every_rows_and_the_teacher_has_no_gradient(name):
    method, batch, terms = compute(name)
    ce = method.cross_entropy(method.student(batch.views[0]).logits, batch.labels)
    torch.testing.assert_close(terms["ce"], ce)
    sum(terms.values()).backward()
    assert all(p.grad is None for p in method.teacher_network.parameters())


@pytest.mark.parametrize("level", [1, 3])
def test_fitnet_regresses_the_level_counted_from_the_deepest(level):
    method, batch, terms = compute("fitnet", level=level, hint_weight=7.0)
    guided, target = pairs_of_levels(method, batch)[level - 1]
    weight, bias = method.regressor.weight[:, :, 0, 0], method.regressor.bias
    regressed = torch.einsum("of,bfhw->bohw", weight, guided) + bias[:, None, None]
    torch.testing.assert_close(terms["hint"], 7 * (regressed - target).square().mean())


def test_the_example_of_how_a_layer_is_reached_is_fitnet():
    (code,) = re.findall(r"```python\n(class Method.*?)```", CONTRIBUTING.read_text(), re.DOTALL)
    names = {"method": method_module, "losses": losses, "nn": torch.nn}
    exec(code, names)
    cls = type("Example", (names["Method"],), {"title": "Example"})
    example = factories.method(cls).eval()
    fitnet, batch = factories.method("fitnet").eval(), factories.batch()
    fitnet.load_state_dict(example.state_dict())
    assert example.compute_losses(batch, LATE) == fitnet.compute_losses(batch, LATE)


def test_at_sums_over_all_levels_but_the_stem():
    method, batch, terms = compute("at", at_weight=3.0)
    pairs = pairs_of_levels(method, batch)[:3]
    torch.testing.assert_close(terms["at"], 3 * sum(losses.at(*pair) for pair in pairs))
    assert method.n_levels == 3


def test_sp_and_pkt_compare_the_last_features():
    for name, weight in (("sp", 3000), ("pkt", 30000)):
        method, batch, terms = compute(name)
        student, teacher = method.student(batch.views[0]), method.run_teacher(batch.views[0])
        field = "feature_map" if name == "sp" else "pooled"
        wanted = getattr(losses, name)(getattr(student, field), getattr(teacher, field))
        torch.testing.assert_close(terms[name], weight * wanted)


def test_reviewkd_warms_up_over_its_share_of_the_epochs():
    full = compute("reviewkd", Progress(2, 24, 1, 2))[2]["review"].item()
    half = compute("reviewkd", Progress(1, 24, 1, 2))[2]["review"]
    assert compute("reviewkd", Progress(0, 24, 1, 2))[2]["review"].item() == 0
    assert half.item() == pytest.approx(full / 2, rel=1e-3) and full > 0
    at_once = compute("reviewkd", Progress(0, 24, 1, 2), warmup_share=0.0, review_weight=2.0)[2]["review"]
    assert at_once.item() == pytest.approx(2 * full, rel=1e-3)


def test_the_fusion_is_the_authors():
    """Values and gradients of the released code (github.com/dvlab-research/ReviewKD at cede6ea), in float64."""
    with np.load(GOLDEN) as archive:
        z = {name: torch.from_numpy(archive[name]) for name in archive.files}

    def features(side, n=4):
        *levels, pooled = [z[f"{side}_{i}"].clone().requires_grad_(side == "student") for i in range(n)]
        # a stem, which is left out
        return Features(levels[-1], pooled, pooled, pooled, (levels[0], *levels)), [*levels, pooled]

    method = factories.method("reviewkd").double()
    (student, leaves), (teacher, targets) = features("student"), features("teacher")
    channels = [[x.shape[1] for x in maps] for maps in (leaves, targets)]
    info = method.info
    own = {"student_levels": (0, *channels[0][:-1]), "teacher_levels": (0, *channels[1][:-1])}
    widths = {"student_width": channels[0][-1], "teacher_width": channels[1][-1]}
    method.info = type(info)(**{**vars(info), **own, **widths})
    method.setup()
    names = {"conv1": "narrow", "conv2": "widen", "att_conv": "attend"}
    state = {}
    for name, value in z.items():
        if name.startswith("state."):
            number, layer, rest = name.removeprefix("state.").split(".", 2)
            state[f"{number}.{names[layer]}.{rest}"] = value
    method.fusions.double().load_state_dict(state)
    squeezed = [f._replace(pooled=f.pooled[:, :, 0, 0]) for f in (student, teacher)]
    # float64 throughout: the levels are not brought to float32
    method.list_maps = lambda f: [f.pooled[:, :, None, None], *f.levels[: -method.n_levels - 1 : -1]]
    review = method.train().compute_review(*squeezed)
    review.backward()
    torch.testing.assert_close(review.detach(), z["loss"], rtol=1e-9, atol=0)
    for i, leaf in enumerate(leaves):
        torch.testing.assert_close(leaf.grad, z[f"grad_{i}"], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_a_backbone_in_half_precision_trains_too(name):
    method = factories.ready_method(name, autocast=True)
    terms = factories.Loop(method).backward(0, factories.batch())
    assert all(value.dtype == torch.float32 and value.isfinite() for value in terms.values())


@pytest.fixture(scope="module")
def network_of():
    """(student or teacher, backbone, whether levels are read) → a network, made once for the methods that take it."""
    return functools.cache(lambda role, backbone, levels: factories.network(backbone=backbone))


@pytest.mark.slow
@pytest.mark.parametrize("student", TINY_BACKBONES)
@pytest.mark.parametrize("name", NAMES)
def test_student_and_teacher_may_be_of_any_families(name, student, network_of):
    levels = plugins.load_class("methods", name).levels
    for teacher in TINY_BACKBONES:
        method = factories.method(
            name,
            student=lambda _: network_of("student", student, levels),
            teacher=lambda _: network_of("teacher", teacher, levels),  # noqa: B023  # called at once
        )
        method.requires_grad_(True)
        terms = factories.Loop(method).backward(0, factories.batch())
        assert all(value.isfinite() for value in terms.values())


@pytest.mark.parametrize("name", NAMES)
def test_a_method_asks_for_levels_where_it_reads_them(name):
    assert plugins.load_class("methods", name).levels == (name in ("fitnet", "at", "reviewkd"))
