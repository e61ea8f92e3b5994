"""Mixed batches: what is mixed with what, the loss at both labels, and that nothing else of them can be read."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from support import factories, oracles, own_runs
from udcd_bench import plugins
from udcd_bench.data.batches.mixup import MixedIndex, MixedLabels, Mixup
from udcd_bench.errors import UnreadableError, UserError
from udcd_bench.training.step.rehearsal import _compute_losses, rehearse
from udcd_bench.training.trainer import Trainer

LABELS = "Batch.labels"
INDEX = "Batch.index"
UNMIXED = {
    "balanced-softmax": LABELS,
    "class-balanced": LABELS,
    "crckd": INDEX,
    "crd": INDEX,
    "dkd": LABELS,
    "focal": LABELS,
    "ldam-drw": LABELS,
    "logit-adjustment": LABELS,
    "ps-kd": INDEX,
    "scl-ikd": LABELS,
    "ssd-kd": LABELS,
    "sskd": LABELS,
    "udcd": LABELS,
    "udcd-released": INDEX,
}
"""Row → what it reads that mixed images do not have; all other rows train on them."""


def read_mix(mixup, n):
    """Images that say who they are: λ and the partner of each, from one mix of the rows of an identity."""
    (mixed,), labels = mixup.mix((torch.eye(n, dtype=torch.float64),), torch.arange(n))
    return labels.share, labels.second, mixed


def make_batches(augment, views=2, skip=0):
    """The batches of one epoch, behind some others."""
    resident = factories.resident(augment=augment)
    for _ in range(skip):
        list(resident.iterate_batches(factories.BATCH, views))
    return list(resident.iterate_batches(factories.BATCH, views)), resident


# --- what is mixed --------------------------------------------------------------------------------------------


def test_an_image_is_blended_with_one_other_by_one_share():
    mixup = Mixup(1)
    for _ in range(5):
        share, partner, mixed = read_mix(mixup, 6)
        for i, row in enumerate(mixed.tolist()):
            expected = [0.0] * 6
            expected[i] += share
            expected[partner[i]] += 1 - share
            assert row == pytest.approx(expected, abs=1e-15)
        assert sorted(partner.tolist()) == list(range(6))


def test_shares_are_of_the_beta_distribution():
    mixup = Mixup(2)
    shares = np.array([read_mix(mixup, 2)[0] for _ in range(2000)])
    assert shares.mean() == pytest.approx(0.5, abs=0.04)
    assert shares.var() == pytest.approx(1 / (4 * (2 * 0.2 + 1)), abs=0.01), "of Beta(α, α) with α = 0.2"


@pytest.mark.parametrize("views", [1, 2])
def test_all_views_of_the_usual_batches_are_mixed_alike(views):
    (plain, _), (mixed, resident) = make_batches("paper", views), make_batches("mixup", views)
    replay = Mixup(
        3
    )  # the seed of the draws is 2 more than that of the turns, 1 more being that of RandAugment
    replay.generator.set_state(factories.resident(augment="mixup").mixup.generator.get_state())
    for a, b in zip(plain, mixed, strict=True):
        share, partner, _ = read_mix(replay, len(a.labels))
        assert b.labels.share == share and torch.equal(b.labels.first, a.labels)
        assert torch.equal(b.labels.second, a.labels[partner])
        for x, y in zip(a.views, b.views, strict=True):
            torch.testing.assert_close(y, share * x + (1 - share) * x[partner], rtol=0, atol=1e-6)
            assert y.stride() == x.stride()
    states = make_batches("paper", views)[1].get_state(), resident.get_state()
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0]), "order and turns as ever"


def test_a_seed_gives_the_same_mixes_and_a_restored_state_goes_on_with_them():
    torch.manual_seed(1)
    np.random.seed(1)
    whole, _ = make_batches("mixup", skip=1)
    torch.manual_seed(2)
    np.random.seed(2)
    _, first = make_batches("mixup")
    other = factories.resident(augment="mixup")
    other.restore({key: value.clone() for key, value in first.get_state().items()})
    again = list(other.iterate_batches(factories.BATCH, 2))
    for a, b in zip(whole, again, strict=True):
        assert a.labels.share == b.labels.share and all(map(torch.equal, a.views, b.views))
    assert len({batch.labels.share for batch in whole}) == len(whole), "each batch has its own"
    assert read_mix(Mixup(4), 5)[0] != read_mix(Mixup(5), 5)[0]


def test_images_that_are_tested_are_not_mixed():
    plain, mixed = (factories.resident(augment=augment) for augment in ("paper", "mixup"))
    for a, b in zip(plain.iterate_images(7), mixed.iterate_images(7), strict=True):
        assert torch.equal(a, b)


# --- the loss at both labels ----------------------------------------------------------------------------------


def make_labels(share=0.3):
    return MixedLabels(torch.tensor([0, 1, 2, 3, 0]), torch.tensor([1, 1, 0, 2, 3]), share)


def make_method(**info):
    method = factories.method("scratch")
    method.info = replace(method.info, **info)
    return method


def test_without_weights_the_loss_is_the_cross_entropy_with_the_mixed_label():
    logits, labels = torch.randn(5, 4, dtype=torch.float64), make_labels()
    method = make_method(class_weights=torch.ones(4, dtype=torch.float64))
    soft = 0.3 * F.one_hot(labels.first, 4).double() + 0.7 * F.one_hot(labels.second, 4).double()
    rows = oracles.soft_cross_entropy(logits.tolist(), soft.tolist())
    assert method.cross_entropy(logits, labels).item() == pytest.approx(sum(rows) / 5, rel=1e-12)


@pytest.mark.parametrize("normalise", ["weights", "batch"])
def test_the_loss_is_that_at_both_labels_by_their_shares(normalise):
    logits, labels = torch.randn(5, 4, dtype=torch.float64), make_labels()
    weights = torch.tensor([0.5, 1.0, 2.0, 4.0], dtype=torch.float64)
    method = make_method(class_weights=weights, ce_normalise=normalise)
    factor = torch.rand(5, dtype=torch.float64)
    for compute in (
        lambda given: method.cross_entropy(logits, given),
        lambda given: method.cross_entropy(logits, given, factor),
        lambda given: method.average_rows(factor, given),
    ):
        expected = 0.3 * compute(labels.first).item() + 0.7 * compute(labels.second).item()
        assert compute(labels).item() == pytest.approx(expected, rel=1e-12)


# --- what cannot be read --------------------------------------------------------------------------------------

READS = {
    "index of": lambda x: torch.arange(4)[x],
    "indexed": lambda x: x[:2],
    "compared": lambda x: x == 1,
    "in a loss": lambda x: F.cross_entropy(torch.randn(5, 4), x),
    "repeated": lambda x: x.repeat(2),
    "as a list": lambda x: x.tolist(),
    "as NumPy's": lambda x: x.numpy(),
    "as an array": np.asarray,
    "one by one": list,
    "one": lambda x: x[0].item(),
    "looped over": list,
    "one hot": lambda x: F.one_hot(x, 4),
    "as floats": lambda x: x.float(),
    "as columns": lambda x: x[:, None],
    "joined": lambda x: torch.cat([torch.arange(2), x]),
    "gathered": lambda x: torch.randn(5, 4).gather(1, x.unsqueeze(1)),
    "written": lambda x: torch.zeros(9).index_add_(0, x, torch.ones(5)),
    "written in place": lambda x: torch.zeros(9).__setitem__(x, 1.0),
}


@pytest.mark.parametrize("read", READS.values(), ids=READS)
@pytest.mark.parametrize(
    ("given", "words"),
    [
        (
            make_labels(),
            r"reads Batch\.labels otherwise than by self\.cross_entropy .*augment=mixup an image has two; ",
        ),
        (
            MixedIndex(torch.arange(5)),
            r"reads Batch\.index, as memories do, and with augment=mixup .*; leave the row",
        ),
    ],
    ids=["labels", "index"],
)
def test_labels_and_index_cannot_be_read(given, words, read):
    with pytest.raises(UnreadableError, match=words):
        read(given)
    assert len(given) == 5 and given.shape == (5,) and given.dtype == torch.int64 and "(5,)" in repr(given)


@pytest.mark.usefixtures("shipped_suites")
def test_a_rehearsal_tells_which_methods_cannot_train_on_mixed_images():
    for name in plugins.list_names("methods"):
        method_class = plugins.load_class("methods", name)
        if name in UNMIXED:
            with pytest.raises(UnreadableError, match=f"it reads {UNMIXED[name]}"):
                rehearse(method_class, (), has_several_teachers=False, mixes=True)
        else:
            _compute_losses(method_class, (), False, True)  # which lets no error pass


# --- in the loop ----------------------------------------------------------------------------------------------


def test_a_stopped_run_on_mixed_images_goes_on_bit_for_bit(monkeypatch):
    monkeypatch.setattr("udcd_bench.training.trainer.CHECKPOINT_SHARE", 1e9)
    data = factories.dataset()

    def build(checkpoints, augment="mixup"):
        train, test = factories.resident(data, augment=augment), factories.resident(data)
        method = factories.method("mtg", train)
        return Trainer(method, factories.protocol(augment=augment), train, test, checkpoints=checkpoints)

    kept = factories.MemoryCheckpoints()
    whole = build(kept).run()
    assert kept.saved
    del kept.saved[1:]
    torch.manual_seed(12345)
    again = build(kept).run()
    assert (again.scores == whole.scores).all() and (again.embeddings == whole.embeddings).all()
    assert [row["loss"] for row in again.history] == [row["loss"] for row in whole.history]
    assert (build(None, "paper").run().scores != whole.scores).any()


def test_a_run_is_trained_on_mixed_images_and_refused_where_it_reads_their_labels(tmp_path):
    own_runs.draw(tmp_path / "skin")
    plain, mixed = (own_runs.train(tmp_path, settings={"augment": augment}) for augment in ("paper", "mixup"))
    assert plain.key != mixed.key and mixed.record["protocol"]["augment"] == "mixup"
    assert "augment" not in plain.record["made_of"]["protocol"]
    weights = [run.store.read_weights(run.key)["classifier.weight"] for run in (plain, mixed)]
    assert (weights[0] != weights[1]).any()
    for name, what in (("udcd", LABELS), ("crd", INDEX)):
        with pytest.raises(
            UserError, match=rf"^{name}: it reads {what}.*; leave the row out, or give it another"
        ):
            own_runs.train(tmp_path, name, settings={"augment": "mixup"})
    assert len(plain.store.list_keys()) == 2, "no teacher is trained for what is refused"
    with pytest.raises(UserError, match=r"invalid augment='cutmix': it is one of paper, randaugment, mixup"):
        own_runs.train(tmp_path, settings={"augment": "cutmix"})
