"""Degenerate input, low precision, near-equal rows, and what the losses keep in memory."""

import pytest
import torch

from udcd_bench import losses

INTEGERS = torch.long


def logits(n, c=5, scale=1.0):
    return torch.randn(n, c, generator=torch.Generator().manual_seed(n)) * scale


def unit(seed, *shape):
    x = torch.randn(*shape, generator=torch.Generator().manual_seed(seed))
    return x / x.norm(dim=-1, keepdim=True)


def zeros(*shape):
    return torch.zeros(*shape, dtype=INTEGERS)


def apart(n):
    return torch.arange(n)


PREDICTIONS = (
    losses.inter_class_distance,
    losses.intra_class_distance,
    losses.batch_relation,
    losses.class_relation,
)
# situation -> (function, arguments); the floating arguments of all of them are asked for a gradient
SITUATIONS = {
    "kd, huge logits": (losses.kd, (logits(4, scale=1e4), logits(6, scale=1e4)[:4])),
    "kd, opposite certainty": (losses.kd, (torch.eye(3) * 1e4, -torch.eye(3) * 1e4, 0.5)),
    "kd, one row": (losses.kd, (logits(1), logits(1))),
    "kd, no row": (losses.kd, (logits(1)[:0], logits(1)[:0])),
    "uncertainty_kl, huge logits": (losses.uncertainty_kl, (torch.eye(3) * 1e4, -torch.eye(3) * 1e4)),
    "uncertainty_kl, one class": (losses.uncertainty_kl, (logits(3, 1), logits(3, 1))),
    "weighted_cross_entropy, huge": (
        losses.weighted_cross_entropy,
        (torch.eye(3) * 1e4, apart(3).flip(0), torch.ones(3)),
    ),
    "weighted_cross_entropy, no weight": (
        losses.weighted_cross_entropy,
        (logits(3), zeros(3), torch.zeros(5)),
    ),
    "rkd_distance, one row": (losses.rkd_distance, (logits(1), logits(1))),
    "rkd_distance, equal rows": (losses.rkd_distance, (torch.ones(5, 7), torch.ones(5, 7))),
    "rkd_distance, two equal": (losses.rkd_distance, (logits(4)[[0, 0, 1, 2]], logits(4))),
    "rkd_angle, one row": (losses.rkd_angle, (logits(1), logits(1))),
    "rkd_angle, two rows": (losses.rkd_angle, (logits(2), logits(2))),
    "rkd_angle, equal rows": (losses.rkd_angle, (torch.ones(5, 7) / 3, logits(5))),
    "rkd_angle, two equal": (losses.rkd_angle, (logits(4)[[0, 0, 1, 2]], logits(4))),
    "supcon, one view": (losses.supcon, (unit(0, 1, 1, 4), zeros(1))),
    "supcon, one image": (losses.supcon, (unit(0, 1, 2, 4), zeros(1))),
    "supcon, no positive": (losses.supcon, (unit(0, 3, 1, 4), apart(3))),
    "supcon, one class, equal": (losses.supcon, (torch.ones(3, 2, 4) / 2, zeros(3))),
    "npairs, one row": (losses.npairs, (logits(1), zeros(1))),
    "npairs, zero rows": (losses.npairs, (torch.zeros(3, 4), apart(3))),
    "npairs, huge": (losses.npairs, (logits(3, scale=1e4), zeros(3))),
    "nce, no negative": (losses.nce, (torch.rand(2, 3), 3, 10)),
    "nce, zero scores": (losses.nce, (torch.zeros(2, 9), 2, 10)),
    "nce, huge scores": (losses.nce, (torch.full((2, 9), 1e4), 1, 10)),
    "class_anchors, absent class": (losses.class_anchors, (logits(3), zeros(3), 4)),
    "class_anchors, no row": (losses.class_anchors, (torch.zeros(0, 3), zeros(0), 4)),
    "crp, zero anchors": (
        losses.crp,
        (unit(0, 3, 4), torch.zeros(5, 4), unit(1, 3, 4), torch.zeros(5, 4)),
    ),
    "crp, zero rows": (losses.crp, (torch.zeros(1, 4), unit(2, 5, 4), torch.zeros(1, 4), unit(3, 5, 4))),
    "relation_matrix, huge": (losses.relation_matrix, (logits(3, scale=1e2), logits(4, scale=1e2))),
    "cra, one row": (losses.cra, (logits(1).softmax(1), logits(1).softmax(1))),
    "cra, two rows": (losses.cra, (logits(2).softmax(1), logits(2).softmax(1))),
    "cra, equal rows": (losses.cra, (torch.full((5, 4), 0.25), torch.full((5, 4), 0.25))),
    "cra, certain rows": (losses.cra, (torch.eye(4)[[0, 0, 1, 2, 3]], logits(5, 4).softmax(1))),
    "cra, one class": (losses.cra, (torch.ones(4, 1), torch.ones(4, 1))),
    "memory_scl, one row": (
        losses.memory_scl,
        (unit(0, 1, 4), zeros(1), unit(1, 2, 4), zeros(2), unit(2, 6, 4), apart(6)),
    ),
    "memory_scl, no positive": (
        losses.memory_scl,
        (unit(0, 2, 4), apart(2), unit(1, 2, 4), apart(2), unit(2, 6, 4), apart(6)),
    ),
    "memory_scl, no negative": (
        losses.memory_scl,
        (unit(0, 2, 4), zeros(2), unit(1, 4, 4), zeros(4), unit(2, 6, 4), zeros(6)),
    ),
    "memory_scl, empty bank": (
        losses.memory_scl,
        (unit(0, 2, 4), zeros(2), unit(1, 4, 4), zeros(4), unit(2, 6, 4)[:0], zeros(0)),
    ),
    "view_similarity, zero rows": (losses.view_similarity, (torch.zeros(8, 3),)),
    "view_similarity, one image": (losses.view_similarity, (logits(4),)),
    "channel_gram, equal maps": (losses.channel_gram, (torch.ones(2, 6, 2, 2), torch.ones(2, 6, 2, 2))),
    "channel_gram, equal, wide": (losses.channel_gram, (torch.ones(2, 2, 3, 3), torch.ones(2, 2, 3, 3))),
    "channel_gram, zero maps": (losses.channel_gram, (torch.zeros(1, 6, 1, 1), torch.ones(1, 6, 1, 1))),
    "hint, no image": (losses.hint, (torch.zeros(0, 6, 2, 2), torch.ones(0, 6, 2, 2))),
    "at, no image": (losses.at, (torch.zeros(0, 6, 2, 2), torch.ones(0, 6, 2, 2))),
    "at, zero maps": (losses.at, (torch.zeros(2, 6, 3, 3), torch.ones(2, 6, 3, 3))),
    "at, both zero": (losses.at, (torch.zeros(2, 6, 3, 3), torch.zeros(2, 4, 3, 3))),
    "at, one place": (losses.at, (torch.ones(2, 6, 1, 1), torch.ones(2, 4, 1, 1))),
    "hcl, no image": (losses.hcl, (torch.zeros(0, 6, 5, 5), torch.ones(0, 6, 5, 5))),
    "hcl, one place": (losses.hcl, (torch.zeros(2, 6, 1, 1), torch.ones(2, 6, 1, 1))),
    "sp, one image": (losses.sp, (torch.ones(1, 6, 2, 2), torch.ones(1, 4, 2, 2))),
    "sp, zero maps": (losses.sp, (torch.zeros(3, 6, 2, 2), torch.ones(3, 6, 2, 2))),
    "sp, no image": (losses.sp, (torch.zeros(0, 6, 2, 2), torch.zeros(0, 6, 2, 2))),
    "pkt, one row": (losses.pkt, (logits(1), logits(1))),
    "pkt, no row": (losses.pkt, (logits(1)[:0], logits(1)[:0])),
    "pkt, zero rows": (losses.pkt, (torch.zeros(4, 3), logits(4))),
    "pkt, opposite rows": (losses.pkt, (torch.tensor([[1.0, 0], [-1.0, 0]]), torch.ones(2, 3))),
    "pkt, huge rows": (losses.pkt, (logits(4, scale=1e4), logits(4, scale=1e4))),
    "logit_adjusted_cross_entropy, huge": (
        losses.logit_adjusted_cross_entropy,
        (torch.eye(3) * 1e4, apart(3).flip(0), torch.tensor([5, 2, 1])),
    ),
    "logit_adjusted_cross_entropy, absent class": (
        losses.logit_adjusted_cross_entropy,
        (logits(3), zeros(3) + 4, torch.tensor([9, 1, 0, 0, 0])),
    ),
    "logit_adjusted_cross_entropy, no row": (
        losses.logit_adjusted_cross_entropy,
        (logits(1)[:0], zeros(0), torch.zeros(5, dtype=INTEGERS)),
    ),
    "focal_factor, certain and right": (losses.focal_factor, (torch.eye(3) * 1e4, apart(3), 0.5)),
    "focal_factor, certain and wrong": (losses.focal_factor, (torch.eye(3) * 1e4, apart(3).flip(0), 2.0)),
    "focal_factor, one class": (losses.focal_factor, (logits(3, 1), zeros(3), 0.0)),
    "ldam_logits, absent class": (
        losses.ldam_logits,
        (logits(3).tanh(), zeros(3) + 4, torch.tensor([9, 1, 0, 0, 0])),
    ),
    **{
        f"{function.__name__}, {name}": (function, (*pair, target))
        for function in (losses.target_class_kd, losses.other_class_kd)
        for name, pair, target in (
            ("huge", (torch.eye(3) * 1e4, -torch.eye(3) * 1e4), apart(3)),
            ("one row", (logits(1), logits(1)), zeros(1)),
            ("no row", (logits(1)[:0], logits(1)[:0]), zeros(0)),
            ("two classes", (logits(3, 2), logits(4, 2)[:3]), zeros(3)),
        )
    },
    "standardize_logits, equal": (losses.standardize_logits, (torch.ones(3, 5),)),
    "standardize_logits, huge": (losses.standardize_logits, (torch.eye(3) * 1e4,)),
    "standardize_logits, one class": (losses.standardize_logits, (logits(3, 1),)),
    "soft_cross_entropy, huge": (losses.soft_cross_entropy, (torch.eye(3) * 1e4, torch.eye(3).flip(0))),
    **{
        f"{function.__name__}, {name}": (function, pair)
        for function in PREDICTIONS
        for name, pair in {
            "huge": (torch.eye(3) * 1e4, -torch.eye(3) * 1e4),
            "one image": (logits(1), logits(1) + 1),
            "no image": (logits(1)[:0], logits(1)[:0]),
            "constant predictions": (torch.zeros(4, 5), logits(4)),
        }.items()
    },
}


def floating(a):
    return isinstance(a, torch.Tensor) and a.is_floating_point()


DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


@pytest.mark.parametrize("autocast", [False, True], ids=["plain", "autocast"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("situation", SITUATIONS)
def test_finite(situation, dtype, autocast):
    function, arguments = SITUATIONS[situation]
    arguments = [
        a.to(dtype, copy=True).requires_grad_()
        if isinstance(a, torch.Tensor) and a.is_floating_point()
        else a
        for a in arguments
    ]
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        value = function(*arguments)
        assert value.dtype in (torch.float32, torch.float64)
        assert value.isfinite().all()
        value.sum().backward()
    assert arguments[0].grad is not None
    for a in arguments:
        if floating(a) and a.grad is not None:
            assert a.grad.isfinite().all()


@pytest.mark.parametrize("function", [losses.rkd_distance, losses.rkd_angle, losses.cra, losses.channel_gram])
def test_equal_input_has_no_loss(function):
    x = torch.rand(5, 4, 2, 2) if function is losses.channel_gram else torch.rand(5, 4)
    x.requires_grad_()
    loss = function(x, x.detach().clone())
    loss.backward()
    assert float(loss.detach()) == 0
    assert not x.grad.any()


def test_confidence_spans_zero_to_one():
    sure, unsure = torch.tensor([[1e4, 0, 0]]), torch.zeros(1, 3)
    found = losses.normalized_entropy(torch.cat([sure, unsure]).half())
    assert found.tolist() == pytest.approx([0, 1], abs=1e-6)
    assert losses.normalized_entropy(torch.randn(3, 1)).tolist() == [0, 0, 0]
    assert not losses.normalized_entropy(torch.randn(3, 4, requires_grad=True)).requires_grad


def test_anchors_without_positive_or_negative_count_nothing():
    anchors, batch, bank = unit(0, 4, 3), unit(1, 8, 3), unit(2, 5, 3)
    labels = torch.tensor([0, 1, 0, 2])
    batch_labels = torch.tensor([0, 1, 0, 2, 0, 7, 0, 7])
    bank_labels = torch.tensor([0, 0, 0, 0, 0])
    rows = losses.memory_scl(anchors, labels, batch, batch_labels, bank, bank_labels, reduction="none")
    assert rows.tolist() == [0, 0, 0, 0]


def angle_in_float64(student, teacher):
    """The definition itself, on B³ unit vectors in float64."""
    tables = []
    for x in (student.double(), teacher.double()):
        step = x[None] - x[:, None]
        e = step / step.norm(dim=2, keepdim=True).clamp_min(1e-12)
        tables.append(e @ e.mT)
    return torch.nn.functional.smooth_l1_loss(*tables)


@pytest.mark.parametrize("apart_by", [0.0, 1e-6, 1e-4])
@pytest.mark.parametrize("clustered", ["all", "half", "pair"])
def test_near_equal_rows_keep_their_angles(apart_by, clustered):
    noise, base = unit(0, 16, 256) * 16, unit(1, 16, 256) * 16
    members = {"all": 16, "half": 8, "pair": 2}[clustered]
    student = base.clone()
    student[:members] = base[0] + apart_by * noise[:members]
    student.requires_grad_()
    teacher = unit(2, 16, 256)
    found = losses.rkd_angle(student, teacher)
    exact = student.detach().double().requires_grad_()
    wanted = angle_in_float64(exact, teacher)
    assert abs(float(found.detach() - wanted.detach())) <= 1e-6 * float(wanted.detach())
    if apart_by:
        found.backward()
        wanted.backward()
        assert float((student.grad - exact.grad).abs().max() / exact.grad.abs().max()) < 1e-5


@pytest.mark.parametrize("apart_by", [1e-6, 1e-4, 1e-2])
@pytest.mark.parametrize("shape", [(2, 40, 3, 3), (2, 6, 4, 4)])
def test_near_equal_maps_keep_their_difference(apart_by, shape):
    teacher = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    student = teacher * (1 + apart_by * logits(*shape[:2], 1).view(*shape[:2], 1, 1))
    student.requires_grad_()
    exact = student.detach().double().requires_grad_()
    size = shape[1] * shape[2] * shape[3]
    a, t = exact.flatten(2), teacher.double().flatten(2)
    wanted = ((a @ a.mT - t @ t.mT) / size).square().mean().sqrt()
    found = losses.channel_gram(student, teacher)
    assert abs(float(found.detach() - wanted.detach())) <= 1e-6 * float(wanted.detach())
    found.backward()
    wanted.backward()
    assert float((student.grad - exact.grad).abs().max() / exact.grad.abs().max()) < 1e-5


@pytest.mark.parametrize("positives", [1, 4])
def test_epsilon_survives_float32(positives):
    scores = (torch.rand(8, 600, generator=torch.Generator().manual_seed(0)) * 1e-7).requires_grad_()
    exact = scores.detach().double().requires_grad_()
    found, wanted = losses.nce(scores, positives, 800), losses.nce(exact, positives, 800)
    assert abs(float(found.detach() - wanted.detach())) <= 1e-6 * float(wanted.detach())
    found.backward()
    wanted.backward()
    assert float(((scores.grad - exact.grad) / exact.grad).abs().max()) < 1e-6


def kept_bytes(call):
    kept = {}
    with torch.autograd.graph.saved_tensors_hooks(
        lambda x: kept.update({x.data_ptr(): x.numel() * x.element_size()}) or x, lambda x: x
    ):
        call()
    return sum(kept.values())


def test_triplets_of_a_large_batch_are_not_kept():
    student = logits(256, 7).softmax(1).requires_grad_()
    teacher = logits(257, 7)[:256].softmax(1)
    assert kept_bytes(lambda: losses.cra(student, teacher)) <= 2 * 256 * 256 * 7 * 4


def test_angles_and_grams_of_a_large_batch_are_not_kept():
    student = logits(128, 64).requires_grad_()
    teacher = logits(129, 64)[:128]
    assert kept_bytes(lambda: losses.rkd_angle(student, teacher)) <= 4 * 128 * 128 * 8
    feature_map = torch.rand(2, 512, 2, 2, requires_grad=True)
    kept = kept_bytes(lambda: losses.channel_gram(feature_map, torch.rand(2, 512, 2, 2)))
    assert kept <= 2 * 512 * 4 * 4
