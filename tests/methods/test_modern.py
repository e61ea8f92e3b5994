"""The suite modern: what its methods do beside calling a loss."""

import pytest
import torch
import torch.nn.functional as F

from support import factories, oracles
from udcd_bench import losses
from udcd_bench.method import Progress

pytestmark = pytest.mark.usefixtures("shipped_suites")


def compute(name, epoch=2, epochs=10, **hparams):
    """The terms of a batch in an epoch, and the method and batch that they are of."""
    method = factories.method(name, **hparams).eval()
    batch = factories.batch(method.views)
    terms = method.compute_losses(batch, Progress(epoch, epochs, 1, 2))
    return {key: float(value.detach()) for key, value in terms.items()}, method, batch


@pytest.mark.parametrize("name", ["logit-adjustment", "balanced-softmax", "class-balanced", "ldam-drw"])
def test_what_replaces_class_weights_does_not_use_them(name):
    _, method, batch = compute(name)
    object.__setattr__(method.info, "class_weights", torch.full((4,), torch.nan))
    assert all(value.isfinite() for value in method.compute_losses(batch, Progress(9, 10, 1, 2)).values())


def test_balanced_softmax_is_logit_adjustment_with_tau_one():
    assert compute("balanced-softmax")[0] == compute("logit-adjustment")[0]
    assert compute("logit-adjustment", tau="0.5")[0] != compute("logit-adjustment")[0]


def test_focal_without_focus_is_the_cross_entropy_of_the_other_rows():
    terms, method, batch = compute("focal", gamma="0")
    logits = method.student(batch.views[0]).logits.detach()
    assert terms["ce"] == pytest.approx(float(method.cross_entropy(logits, batch.labels)), rel=1e-6)
    assert compute("focal")[0]["ce"] < terms["ce"]


def test_ldam_defers_its_class_weights():
    (before, method, _), (late, _, _) = compute("ldam-drw", epoch=7), compute("ldam-drw", epoch=8)
    assert before == compute("ldam-drw", epoch=0)[0] and late == compute("ldam-drw", epoch=9)[0]
    assert before != late
    assert late == compute("ldam-drw", epoch=0, drw_start="0")[0]
    assert not method.student.classifier.bias.requires_grad


def test_ldam_is_tested_by_cosines():
    _, method, batch = compute("ldam-drw")
    features, plain = method.predict(batch.views[0]), method.student(batch.views[0])
    vectors = method.student.classifier.weight
    wanted = 30 * F.cosine_similarity(plain.embedding[:, None], vectors[None], dim=2)
    torch.testing.assert_close(features.logits, wanted)
    assert torch.equal(features.embedding, plain.embedding)


def test_dkd_warms_up_over_a_twelfth_of_the_epochs():
    early, late = compute("dkd", epoch=0, epochs=240)[0], compute("dkd", epoch=100, epochs=240)[0]
    assert early["ce"] == late["ce"]
    for term in ("tckd", "nckd"):
        assert early[term] == pytest.approx(late[term] / 20, rel=1e-2)
    assert compute("dkd", epoch=0, epochs=10)[0] == late


@pytest.mark.parametrize("name", ["dkd", "dist", "kd-standardized"])
def test_standardised_logits_do_not_see_the_teachers_scale(name):
    def compute_scaled(scale, **hparams):
        _, method, batch = compute(name, **hparams)
        teacher = method.run_teacher(batch.views[0])
        method.run_teacher = lambda images: teacher._replace(logits=scale * teacher.logits)
        terms = method.compute_losses(batch, Progress(9, 10, 1, 2))
        return torch.stack(list(terms.values())).detach()

    on = {"standardize": "true"} if name != "kd-standardized" else {}
    torch.testing.assert_close(compute_scaled(1, **on), compute_scaled(7, **on), rtol=1e-4, atol=1e-5)
    if on:
        assert not torch.allclose(compute_scaled(1), compute_scaled(7))


def test_dist_is_the_loss_of_its_two_relations():
    terms, method, batch = compute("dist", beta="3", gamma="5")
    pair = method.student(batch.views[0]).logits.detach(), method.run_teacher(batch.views[0]).logits
    assert terms["inter"] == pytest.approx(3 * float(losses.inter_class_distance(*pair, 4.0)), rel=1e-6)
    assert terms["intra"] == pytest.approx(5 * float(losses.intra_class_distance(*pair, 4.0)), rel=1e-6)


def test_mlkd_is_the_sum_of_its_levels_over_the_temperatures():
    terms, method, batch = compute("mlkd")
    views = [(method.student(v).logits.tolist(), method.run_teacher(v).logits.tolist()) for v in batch.views]
    wanted = {"instance": 0.0, "batch": 0.0, "class": 0.0}
    for temperature in (2, 3, 4, 5, 6):
        wanted["instance"] += sum(oracles.mean(oracles.kd(*view, temperature)) for view in views)
        wanted["batch"] += oracles.batch_relation(*views[0], temperature)
        wanted["class"] += oracles.class_relation(*views[0], temperature)
    for term, value in wanted.items():
        assert terms[term] == pytest.approx(0.9 * value, rel=1e-4), term


def test_ps_kd_softens_labels_by_the_predictions_of_the_epoch_before():
    method, batch = factories.method("ps-kd").eval(), factories.batch()
    weights = method.info.class_weights[batch.labels].tolist()

    def step(epoch):
        terms = method.compute_losses(batch, Progress(epoch, 4, 0, 0))
        return float(sum(terms.values()).detach())

    logits = method.student(batch.views[0]).logits.detach()
    hard = F.one_hot(batch.labels, 4).double()
    first = oracles.soft_cross_entropy(logits.tolist(), hard.tolist())
    mixed = 0.6 * hard + 0.4 * logits.double().softmax(1)  # alpha 0.8, epoch 2 of 4
    second = oracles.soft_cross_entropy(logits.tolist(), mixed.tolist())
    for epoch, rows in ((0, first), (1, second)):
        assert step(epoch) == pytest.approx(oracles.dot(weights, rows) / sum(weights), rel=1e-5)
    untouched = torch.ones(len(method.predictions), dtype=torch.bool)
    untouched[batch.index] = False
    assert torch.equal(method.predictions[untouched], F.one_hot(method.info.labels, 4).float()[untouched]), (
        "only images that were seen"
    )


def test_smoothed_labels_are_those_of_pytorch_when_classes_weigh_alike():
    method, batch = factories.method("mean-teacher-smooth").eval(), factories.batch(2)
    object.__setattr__(method.info, "class_weights", torch.ones(4))
    terms = method.compute_losses(batch, Progress(0, 4, 1, 2))
    logits = method.student(batch.views[0]).logits
    torch.testing.assert_close(
        terms["ce"] + terms["smooth"], F.cross_entropy(logits, batch.labels, label_smoothing=0.1)
    )
    assert set(method.compute_losses(batch, Progress(1, 4, 1, 2))) == {"ce", "smooth", "kl"}


@pytest.mark.parametrize("normalise", ["weights", "batch"])
def test_rows_are_averaged_as_the_cross_entropy_is(normalise):
    method, batch = factories.method("scratch").eval(), factories.batch()
    object.__setattr__(method.info, "ce_normalise", normalise)
    logits = method.student(batch.views[0]).logits
    rows = F.cross_entropy(logits, batch.labels, reduction="none")
    torch.testing.assert_close(
        method.average_rows(rows, batch.labels), method.cross_entropy(logits, batch.labels)
    )


def test_ps_kd_goes_on_from_a_checkpoint_with_its_past_predictions():
    whole = factories.train(factories.method("ps-kd"))
    stopped = factories.train_interrupted(lambda: factories.method("ps-kd"), factories.PROTOCOL.epochs)
    assert (whole.scores == stopped.scores).all()
