"""RKD, CRD, CRCKD, UDCD and UDCD as released: their draws, their switches, what they train and what they leave alone.

That their losses are the originals' is `test_trajectories`' business.
"""

from collections import Counter
from itertools import combinations

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from support import factories
from support.factories import SmallNet
from udcd_bench import losses, plugins
from udcd_bench.errors import UserError
from udcd_bench.method import Progress
from udcd_bench.runs.profiles import Protocol
from udcd_bench.sampling import ContrastSampler
from udcd_bench.training.assemble import MethodOptions, Networks, assemble_method
from udcd_bench.training.trainer import Trainer

WIDTH = 16
"""Of ``SmallNet``'s embedding."""
ROWS = ("rkd", "crd", "crckd", "udcd", "udcd-released")
CLASSES = 4
STARTED, NOT_YET = Progress(2, 4, 1, 3), Progress(0, 4, 1, 3)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


# --- the draws -----------------------------------------------------------------------------------------------

LABELS = torch.tensor([0] * 13 + [1] * 7 + [2] * 4 + [3])[torch.randperm(25, generator=seeded(3))]


@pytest.mark.parametrize(("positives", "negatives"), [(1, 5), (4, 12), (6, 15), (8, 24), (1, 60), (20, 0)])
def test_rows_are_of_the_right_classes_and_distinct_where_they_can_be(positives, negatives):
    sampler = ContrastSampler(LABELS, 5, positives, negatives, seeded())  # class 4 is empty
    index = torch.arange(25).repeat(20)
    rows = sampler.sample(index)
    assert rows.shape == (500, positives + negatives)
    assert rows.dtype == torch.int64
    assert torch.equal(rows[:, 0], index)
    same = LABELS[rows] == LABELS[index][:, None]
    assert same[:, :positives].all()
    assert not same[:, positives:].any()
    for image, row in zip(index.tolist(), rows.tolist()):
        own = int((LABELS[image] == LABELS).sum())
        further, others = row[1:positives], row[positives:]
        assert len(set(further)) == len(further) or own < positives - 1
        assert len(set(others)) == len(others) or 25 - own < negatives


def test_every_draw_without_replacement_is_as_likely_as_any():
    labels = torch.tensor([0, 1, 0, 1, 1, 1])
    rows = ContrastSampler(labels, 2, 2, 2, seeded()).sample(torch.zeros(12_000, dtype=torch.long))
    pairs = Counter(tuple(sorted(row)) for row in rows[:, 2:].tolist())
    assert set(pairs) == set(combinations([1, 3, 4, 5], 2))
    assert all(abs(n - 2000) < 5 * (12_000 * 5 / 36) ** 0.5 for n in pairs.values())
    # the image itself is a member of its class as good as any
    positives = rows[:, 1].bincount(minlength=6)
    assert positives[[1, 3, 4, 5]].sum() == 0
    assert abs(int(positives[0]) - 6000) < 5 * 3000**0.5


def test_every_draw_with_replacement_is_as_likely_as_any():
    sampler = ContrastSampler(LABELS, 4, 9, 40, seeded())
    image = int((LABELS == 2).nonzero()[0])
    rows = sampler.sample(torch.full((2000,), image))
    others = rows[:, 9:].flatten().bincount(minlength=25)[LABELS != 2]
    assert (others - 80_000 / 21).abs().max() < 5 * (80_000 / 21) ** 0.5
    own = rows[:, 1:9].flatten().bincount(minlength=25)[LABELS == 2]
    assert (own - 4000).abs().max() < 5 * 4000**0.5


@pytest.mark.parametrize("negatives", [5, 15, 60])
def test_draws_follow_their_generator_and_no_other(negatives):
    def draws(seed, elsewhere):
        torch.manual_seed(elsewhere)
        before = torch.get_rng_state()
        sampler = ContrastSampler(LABELS, 4, 4, negatives, seeded(seed))
        drawn = [sampler.sample(torch.arange(25)) for _ in range(2)]
        assert torch.equal(before, torch.get_rng_state())
        return torch.stack(drawn)

    first = draws(1, 2)
    assert torch.equal(first, draws(1, 3))
    assert not torch.equal(first, draws(2, 2))
    assert not torch.equal(*first)


def test_draws_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match="single class"):
        ContrastSampler(torch.zeros(5, dtype=torch.long), 3, 1, 4, seeded())
    for counts in ((0, 4), (1, -1)):
        with pytest.raises(ValueError, match="n_positives"):
            ContrastSampler(LABELS, 4, *counts, seeded())
    assert ContrastSampler(torch.zeros(5, dtype=torch.long), 1, 3, 0, seeded()).sample(LABELS[:2]).shape == (
        2,
        3,
    )


def test_crckd_turns_each_image_by_itself():
    turn = plugins.load_module("methods", "crckd").turn_images
    images = torch.randn(8, 3, 5, 5, generator=seeded())
    ways = torch.tensor([3, 0, 7, 5, 1, 4, 6, 2])
    for layout in (torch.contiguous_format, torch.channels_last):
        turned = turn(images.contiguous(memory_format=layout), ways)
        assert turned.is_contiguous(memory_format=torch.channels_last)
        for image, way, result in zip(images, ways.tolist(), turned):
            upright = image.flip(1) if way >= 4 else image
            assert torch.equal(result, upright.rot90(way % 4, (1, 2)))
    # all eight ways a square can lie
    square = torch.arange(9.0).view(1, 1, 3, 3).repeat(8, 1, 1, 1)
    assert len({tuple(x.flatten().tolist()) for x in turn(square, ways)}) == 8


def test_crckd_draws_its_turns_evenly_from_its_own_generator():
    method = make("crckd")
    torch.manual_seed(5)
    before = torch.get_rng_state()
    ways = method.sample_turns(8000, torch.device("cpu"))
    assert torch.equal(before, torch.get_rng_state())
    assert (ways.bincount(minlength=8) - 1000).abs().max() < 5 * 875**0.5


# --- the methods ---------------------------------------------------------------------------------------------


def data():
    return factories.resident(factories.dataset(classes=CLASSES))


def make(name, *, teacher_width=None, ce_normalise=None, seed=0, **hparams):
    """A method on the small network, with as few negatives as a test needs unless it says how many."""
    cls = plugins.load_class("methods", name)
    torch.manual_seed(seed)
    student, teacher = SmallNet(CLASSES), SmallNet(CLASSES)
    if teacher_width:
        teacher.backbone[3] = torch.nn.Conv2d(6, teacher_width, 3)
        teacher.backbone[4] = torch.nn.BatchNorm2d(teacher_width)
        teacher.neck, teacher.width = torch.nn.Linear(teacher_width, WIDTH), teacher_width
    defaults = {"negatives": 12, "positives": 4, "width": WIDTH}
    hparams = {k: v for k, v in defaults.items() if k in cls.hparams} | hparams
    ce_normalise = ce_normalise or cls.protocol.get("ce_normalise", "weights")
    options = MethodOptions(tuple(hparams.items()), ce_normalise, seeded(seed))
    return assemble_method(cls, Networks(student, teacher), data().labels, CLASSES, options)


def train(method, **changes):
    """The history of two epochs of two steps in the loop, the teacher's terms in the second."""
    numbers = {
        "epochs": 2,
        "start_epoch": 1,
        "ramp_epochs": 3,
        "batch_size": 20,
        "report_epochs": 1,
    } | changes
    trainer = Trainer(method, Protocol(learning_rate=1e-2, **numbers), data(), data())
    return trainer.run().history


def one_step(method, progress=STARTED):
    """The terms of a batch."""
    return method.compute_losses(next(data().iterate_batches(8, method.views)), progress)


def values(method, progress=STARTED):
    """The terms of a batch, as numbers."""
    return {key: float(value.detach()) for key, value in one_step(method, progress).items()}


SWITCHES = {
    "rkd": {"distance_weight": 20.0, "angle_weight": 40.0},
    "crd": {"crd_weight": 0.5, "negatives": 9, "width": 8, "temperature": 0.1, "momentum": 0.4},
    "crckd": {
        "ccd_weight": 0.2,
        "kl_weight": 2.0,
        "crp_weight": 2.0,
        "positives": 3,
        "negatives": 9,
        "temperature": 0.1,
        "momentum": 0.4,
        "ccd_twice": True,
        "train_projectors": False,
    },
    "udcd": {
        "lambda_kl": 2.0,
        "lambda_scl": 0.2,
        "lambda_cra": 50.0,
        "temperature": 0.1,
        "momentum": 0.4,
        "delta": 0.01,
        "confidence": ("text", "none"),
        "anchors": "rectified",
        "teacher_anchors": "student",
        "relation": "kl",
        "reduction": "sum",
        "projectors": "frozen",
    },
    "udcd-released": {
        "lambda_kl": 2.0,
        "lambda_ccd": 0.2,
        "lambda_relation": 50.0,
        "negatives": 9,
        "temperature": 0.1,
        "momentum": 0.4,
        "train_projectors": True,
    },
}


@pytest.mark.parametrize("name", ROWS)
def test_every_switch_changes_the_loss(name):
    assert set(SWITCHES[name]) == set(plugins.load_class("methods", name).hparams)
    before = train(make(name))[-1]["loss"]
    assert before == train(make(name))[-1]["loss"]
    found = {before}
    for key, values in SWITCHES[name].items():
        for value in values if isinstance(values, tuple) else (values,):
            after = train(make(name, **{key: value}))[-1]["loss"]
            assert after not in found, f"{key}={value} changes nothing"
            found.add(after)


@pytest.mark.parametrize("name", ROWS)
def test_switches_are_validated(name):
    cls = plugins.load_class("methods", name)
    for key, default in cls.hparams.items():
        with pytest.raises(UserError, match=key):
            make(name, **{key: "nonsense"})
        if isinstance(default, str):
            for choice in cls.choices[key]:
                make(name, **{key: choice})
    with pytest.raises(UserError, match="no_such_switch"):
        make(name, no_such_switch=1)


@pytest.mark.parametrize("name", ROWS)
def test_switches_of_the_protocol_change_the_loss(name):
    before = [row["loss"] for row in train(make(name), epochs=3)]
    frozen = [row["loss"] for row in train(make(name), epochs=3, freeze_bn_after_first_eval=True)]
    assert before[0] == frozen[0]
    assert before[1] != frozen[1]
    weights, batch = (train(make(name, ce_normalise=n))[0]["loss_ce"] for n in ("weights", "batch"))
    assert weights != batch
    default = plugins.read_attributes("methods", name).get("protocol", {}).get("ce_normalise", "weights")
    assert train(make(name))[0]["loss_ce"] == {"weights": weights, "batch": batch}[default]


@pytest.mark.parametrize(
    ("name", "key", "term"),
    [
        ("rkd", "distance_weight", "distance"),
        ("rkd", "angle_weight", "angle"),
        ("crd", "crd_weight", "crd"),
        ("crckd", "ccd_weight", "ccd"),
        ("crckd", "kl_weight", "kl"),
        ("crckd", "crp_weight", "crp"),
        ("udcd", "lambda_kl", "kl"),
        ("udcd", "lambda_scl", "scl"),
        ("udcd", "lambda_cra", "cra"),
        ("udcd-released", "lambda_kl", "kl"),
        ("udcd-released", "lambda_ccd", "ccd"),
        ("udcd-released", "lambda_relation", "relation"),
    ],
)
def test_a_weight_weighs_its_term_alone(name, key, term):
    default = plugins.load_class("methods", name).hparams[key]
    before, after, without = (values(make(name, **{key: factor * default})) for factor in (1, 2, 0))
    assert without[term] == 0
    for other in before:
        assert after[other] == pytest.approx((1 + (other == term)) * before[other], rel=1e-6)


@pytest.mark.parametrize("name", ["mtg", "crckd", "udcd", "udcd-released"])
def test_the_ramp_is_on_the_consistency_alone(name):
    early, late = (values(make(name), Progress(epoch, 9, 1, 8)) for epoch in (2, 4))
    for term in early:
        ratio = np.exp(-5 * (0.5**2 - 0.75**2)) if term == "kl" else 1
        assert late[term] == pytest.approx(ratio * early[term], rel=1e-5)


@pytest.mark.parametrize(
    ("name", "before"),
    [("crd", {"ce", "crd"}), ("crckd", {"ce", "ccd"}), ("udcd", {"ce"}), ("udcd-released", {"ce"})],
)
def test_terms_begin_when_they_should(name, before):
    method = make(name)
    banks = [method.memory.student.clone(), method.memory.teacher.clone()]
    assert set(values(method, NOT_YET)) == before
    method.after_step()
    touched = [not torch.equal(a, b) for a, b in zip(banks, (method.memory.student, method.memory.teacher))]
    assert touched == [before != {"ce"}] * 2
    started = values(method)
    assert (
        set(started)
        == before
        | {
            "crd": set(),
            "crckd": {"kl", "crp"},
            "udcd": {"kl", "scl", "cra"},
            "udcd-released": {"kl", "ccd", "relation"},
        }[name]
    )
    method.after_step()
    assert not torch.equal(banks[0], method.memory.student)


def test_crckd_weighs_its_contrast_twice_only_where_it_is_told_to():
    plain, twice = make("crckd"), make("crckd", ccd_twice=True)
    assert values(plain, NOT_YET)["ccd"] == values(twice, NOT_YET)["ccd"]
    plain, twice = make("crckd"), make("crckd", ccd_twice=True)
    assert values(twice)["ccd"] == pytest.approx(0.1 * values(plain)["ccd"], rel=1e-6)


def test_udcd_readings_of_confidence_complete_each_other():
    # ψ₁ + ψ₂ = 1 and the readings swap them; `none` is the ablation, ψ₁ = 1 and ψ₂ = 0
    equation, text, none = (values(make("udcd", confidence=c)) for c in ("equation", "text", "none"))
    assert equation["ce"] + text["ce"] == pytest.approx(4 * none["ce"], rel=1e-5)
    for term in ("scl", "cra"):
        assert equation[term] + text[term] == pytest.approx(none[term], rel=1e-5)
    assert equation["kl"] == text["kl"] == none["kl"]
    assert none["ce"] == pytest.approx(values(make("udcd"), NOT_YET)["ce"], rel=1e-6)


def test_udcd_sums_over_anchors_and_triplets_where_it_is_told_to():
    (mean, total), (kl_mean, kl_total) = (
        [values(make("udcd", relation=relation, reduction=r)) for r in ("mean", "sum")]
        for relation in ("huber", "kl")
    )
    assert total["scl"] == pytest.approx(8 * mean["scl"], rel=1e-6)
    assert total["cra"] == pytest.approx(8 * 7 * 6 * mean["cra"], rel=1e-6)
    assert kl_total["cra"] == pytest.approx(8 * kl_mean["cra"], rel=1e-6)
    assert (total["ce"], total["kl"]) == (mean["ce"], mean["kl"])


@pytest.mark.parametrize("anchors", ["own", "student"])
def test_udcd_compares_the_teachers_rows_with_the_anchors_that_its_reading_says(anchors):
    method = make("udcd", teacher_anchors=anchors).double()
    z_student, z_teacher = torch.nn.functional.normalize(
        torch.randn(2, 6, WIDTH, generator=seeded(1), dtype=torch.float64), dim=2
    )
    banks = {"student": method.memory.student, "teacher": method.memory.teacher}

    def relate(z, bank):
        """Eq. 3 as a loop: the softmax of a row's products with each class's mean."""
        products = []
        for label in range(CLASSES):
            rows = [bank[i] for i in range(len(bank)) if int(method.info.labels[i]) == label]
            products.append(float(z @ (sum(rows) / len(rows))))
        shares = np.exp(products)
        return torch.tensor(shares / shares.sum())

    relation_s = torch.stack([relate(z, banks["student"]) for z in z_student])
    teachers_bank = banks["teacher" if anchors == "own" else "student"]
    relation_t = torch.stack([relate(z, teachers_bank) for z in z_teacher])
    expected = losses.cra(relation_s, relation_t, method.hp.delta, reduction="none")
    actual = method.compute_relation_alignment(z_student, z_teacher)
    torch.testing.assert_close(actual, expected, rtol=1e-9, atol=1e-12)


def test_released_cross_entropy_divides_by_the_batch():
    method = make("udcd-released")
    batch = next(data().iterate_batches(8, 2))
    sums = float(method.info.class_weights[batch.labels].sum())
    by_batch, by_weights = (
        values(make("udcd-released", ce_normalise=n), NOT_YET)["ce"] for n in ("batch", "weights")
    )
    assert by_batch == pytest.approx(by_weights * sums / 8, rel=1e-6)


# --- what is trained -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "hparams", "moves"),
    [
        ("crd", {}, {"student_projector": True, "teacher_projector": True}),
        ("crckd", {}, {"student_projector": True, "teacher_projector": True}),
        ("crckd", {"train_projectors": False}, {"student_projector": False, "teacher_projector": False}),
        ("udcd", {}, {"projector": True, "teacher_projector": True}),
        ("udcd", {"projectors": "frozen"}, {"projector": False, "teacher_projector": False}),
        ("udcd-released", {}, {"student_projector": False, "teacher_projector": False}),
        ("udcd-released", {"train_projectors": True}, {"student_projector": True, "teacher_projector": True}),
    ],
)
def test_heads_move_if_they_are_trained_and_rest_if_they_are_frozen(name, hparams, moves):
    method = make(name, **hparams)
    heads = {key: getattr(method, key) for key in moves}
    before = {key: [p.clone() for p in head.parameters()] for key, head in heads.items()}
    train(method)
    for key, head in heads.items():
        for old, new in zip(before[key], head.parameters()):
            assert torch.equal(old, new) != moves[key], key


@pytest.mark.parametrize("name", ROWS)
def test_the_teacher_gets_no_gradient(name):
    method = make(name)
    sum(one_step(method).values()).backward()
    assert all(p.grad is None and not p.requires_grad for p in method.teacher_network.parameters())
    assert all(p.grad is not None for p in method.student.parameters())


@pytest.mark.parametrize("name", ["rkd", "crd"])
def test_a_trained_teacher_is_left_as_it_was(name):
    method = make(name)
    before = {k: v.clone() for k, v in method.teacher_network.state_dict().items()}
    train(method)
    assert all(torch.equal(v, before[k]) for k, v in method.teacher_network.state_dict().items())


@pytest.mark.parametrize("name", ["rkd", "crd"])
def test_student_and_teacher_may_be_of_different_width(name):
    assert np.isfinite(train(make(name, teacher_width=11))[-1]["loss"])


@pytest.mark.parametrize("name", ROWS)
def test_draws_follow_the_methods_generator(name):
    def terms(elsewhere):
        method = make(name)
        batch = next(data().iterate_batches(8, method.views))
        torch.manual_seed(elsewhere)
        return {k: float(v.detach()) for k, v in method.compute_losses(batch, STARTED).items()}

    assert terms(1) == terms(2)


@pytest.mark.parametrize("name", ROWS)
def test_nothing_is_read_back_from_the_device(name):
    class Refuse(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            name = func.overloadpacket.__name__
            assert name not in ("_local_scalar_dense", "nonzero", "masked_select", "unique", "is_nonzero"), (
                name
            )
            return func(*args, **(kwargs or {}))

    for hparams in ({}, {"negatives": 34}, {"negatives": 4096}):  # distinct, some classes distinct, all again
        if hparams and "negatives" not in plugins.load_class("methods", name).hparams:
            continue
        method = make(name, **hparams)
        batch = next(data().iterate_batches(8, method.views))
        with Refuse():
            sum(method.compute_losses(batch, STARTED).values()).backward()
            with torch.no_grad():
                method.after_step()
