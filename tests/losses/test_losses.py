"""Every loss against its slow loop, its gradient against differences, its arguments' names and limits."""

import inspect

import pytest
import torch
from torch.autograd import gradcheck

from support import oracles
from udcd_bench import losses

NONE = {"reduction": "none"}


def draw(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def unit(x):
    return x / x.norm(dim=-1, keepdim=True)


def positive(x):
    return x.abs() * 1e-2 + 1e-4


LABELS = torch.tensor([0, 2, 2, 1, 0, 3, 2])
COUNTS = torch.tensor([80.0, 7.0, 21.0, 2.0], dtype=torch.float64)
BANK_LABELS = torch.tensor([0, 1, 1, 2, 0, 3, 4, 2, 1, 0, 0])

# name -> (library, oracle, arguments, the positions that get a gradient); oracles see plain lists
CASES = {
    "kd": (losses.kd, oracles.kd, (draw(1, 5, 4), draw(2, 5, 4), 2.5), (0,)),
    "uncertainty_kl": (losses.uncertainty_kl, oracles.uncertainty_kl, (draw(3, 5, 6), draw(4, 5, 6)), (0, 1)),
    "confidence": (losses.normalized_entropy, oracles.confidence, (draw(5, 9, 3),), ()),
    "weighted_cross_entropy": (
        losses.weighted_cross_entropy,
        oracles.weighted_cross_entropy,
        (draw(6, 7, 4), LABELS, positive(draw(7, 4))),
        (0,),
    ),
    "rkd_distance": (losses.rkd_distance, oracles.rkd_distance, (draw(8, 5, 3), draw(9, 5, 7)), (0,)),
    "rkd_angle": (losses.rkd_angle, oracles.rkd_angle, (draw(10, 6, 3), draw(11, 6, 5)), (0,)),
    "supcon": (losses.supcon, oracles.supcon, (unit(draw(12, 7, 2, 5)), LABELS, 0.2), (0,)),
    "supcon, one view": (losses.supcon, oracles.supcon, (unit(draw(13, 7, 1, 5)), LABELS, 0.2), (0,)),
    "npairs": (losses.npairs, oracles.npairs, (draw(14, 7, 4), LABELS, 0.3), (0,)),
    "nce": (losses.nce, oracles.nce, (positive(draw(15, 3, 17)), 3, 90), (0,)),
    "class_anchors": (losses.class_anchors, oracles.class_anchors, (draw(16, 11, 3), BANK_LABELS, 6), (0,)),
    "class_anchors, plain": (
        losses.class_anchors,
        oracles.class_anchors,
        (draw(17, 11, 3), BANK_LABELS, 6, False),
        (0,),
    ),
    "crp": (
        losses.crp,
        oracles.crp,
        (unit(draw(18, 4, 5)), draw(19, 3, 5), unit(draw(20, 4, 6)), draw(21, 3, 6), 0.3),
        (0,),
    ),
    "relation_matrix": (
        losses.relation_matrix,
        oracles.relation_matrix,
        (draw(22, 4, 5), draw(23, 3, 5)),
        (0, 1),
    ),
    "anchor_logits": (
        losses.anchor_logits,
        oracles.anchor_logits,
        (draw(24, 4, 5), draw(25, 3, 5), 0.4),
        (0,),
    ),
    "cra": (
        losses.cra,
        oracles.cra,
        (draw(26, 6, 4).softmax(1), draw(27, 6, 4).softmax(1), 0.4),
        (0,),
    ),
    "cra, three rows": (
        losses.cra,
        oracles.cra,
        (draw(28, 3, 2).softmax(1), draw(29, 3, 2).softmax(1)),
        (),
    ),
    "memory_scl": (
        losses.memory_scl,
        oracles.memory_scl,
        (
            unit(draw(30, 7, 4)),
            LABELS,
            unit(draw(31, 14, 4)),
            LABELS.repeat(2),
            unit(draw(32, 11, 4)),
            BANK_LABELS,
            0.3,
        ),
        (0, 2),
    ),
    "view_similarity": (losses.view_similarity, oracles.view_similarity, (draw(33, 12, 5),), (0,)),
    "channel_gram, few places": (
        losses.channel_gram,
        oracles.channel_gram,
        (draw(34, 3, 6, 2, 2), draw(35, 3, 6, 2, 2)),
        (0,),
    ),
    "channel_gram, many places": (
        losses.channel_gram,
        oracles.channel_gram,
        (draw(36, 3, 2, 3, 2), draw(37, 3, 2, 3, 2)),
        (0,),
    ),
    "hint": (losses.hint, oracles.hint, (draw(41, 3, 4, 3, 2), draw(42, 3, 4, 3, 2)), (0,)),
    "at": (losses.at, oracles.at, (draw(43, 3, 4, 3, 2), draw(44, 3, 5, 3, 2)), (0,)),
    "hcl, every size": (
        losses.hcl,
        lambda s, t: oracles.hcl(s, t, 7, 5),
        (draw(45, 2, 3, 7, 5), draw(46, 2, 3, 7, 5)),
        (0,),
    ),
    "hcl, one size": (
        losses.hcl,
        lambda s, t: oracles.hcl(s, t, 2, 2),
        (draw(47, 2, 3, 2, 2), draw(48, 2, 3, 2, 2)),
        (0,),
    ),
    "sp": (losses.sp, oracles.sp, (draw(49, 5, 3, 2, 2), draw(50, 5, 4, 3, 3)), (0,)),
    "pkt": (losses.pkt, oracles.pkt, (draw(51, 6, 4), draw(52, 6, 3)), (0,)),
    "logit_adjusted_cross_entropy": (
        losses.logit_adjusted_cross_entropy,
        oracles.logit_adjusted_cross_entropy,
        (draw(50, 7, 4), LABELS, COUNTS, 1.7),
        (0,),
    ),
    "logit_adjusted_cross_entropy, as balanced softmax": (
        losses.logit_adjusted_cross_entropy,
        oracles.balanced_softmax,
        (draw(51, 7, 4), LABELS, COUNTS),
        (0,),
    ),
    "focal_factor": (losses.focal_factor, oracles.focal_factor, (draw(52, 7, 4), LABELS, 1.5), (0,)),
    "effective_number_weights": (
        losses.effective_number_weights,
        oracles.effective_number_weights,
        (COUNTS, 0.99),
        (),
    ),
    "ldam_logits": (
        losses.ldam_logits,
        oracles.ldam_logits,
        (draw(53, 7, 4).tanh(), LABELS, COUNTS, 0.4, 20.0),
        (0,),
    ),
    "target_class_kd": (
        losses.target_class_kd,
        oracles.target_class_kd,
        (draw(54, 7, 4), draw(55, 7, 4), LABELS, 2.5),
        (0,),
    ),
    "other_class_kd": (
        losses.other_class_kd,
        oracles.other_class_kd,
        (draw(56, 7, 4), draw(57, 7, 4), LABELS, 2.5),
        (0,),
    ),
    "standardize_logits": (losses.standardize_logits, oracles.standardize_logits, (draw(58, 5, 4),), (0,)),
    "soft_cross_entropy": (
        losses.soft_cross_entropy,
        oracles.soft_cross_entropy,
        (draw(59, 5, 4), draw(60, 5, 4).softmax(1)),
        (0,),
    ),
    "inter_class_distance": (
        losses.inter_class_distance,
        oracles.inter_class_distance,
        (draw(61, 5, 4), draw(62, 5, 4), 2.0),
        (0,),
    ),
    "intra_class_distance": (
        losses.intra_class_distance,
        oracles.intra_class_distance,
        (draw(63, 5, 4), draw(64, 5, 4), 2.0),
        (0,),
    ),
    "batch_relation": (
        losses.batch_relation,
        oracles.batch_relation,
        (draw(65, 5, 4), draw(66, 5, 4), 2.0),
        (0,),
    ),
    "class_relation": (
        losses.class_relation,
        oracles.class_relation,
        (draw(67, 5, 4), draw(68, 5, 4), 2.0),
        (0,),
    ),
}
PER_ROW = ("kd", "uncertainty_kl", "weighted_cross_entropy", "crp", "cra", "memory_scl")
PER_ROW += ("logit_adjusted_cross_entropy", "target_class_kd", "other_class_kd", "soft_cross_entropy")


def plain(value):
    if isinstance(value, torch.Tensor):
        return value.flatten(2).tolist() if value.dim() == 4 else value.tolist()
    return value


@pytest.mark.parametrize("case", CASES)
def test_slow_loop_agrees(case):
    function, oracle, arguments, _ = CASES[case]
    wanted = torch.tensor(oracle(*(plain(a) for a in arguments)), dtype=torch.float64)
    per_row = case.split(",")[0] in PER_ROW
    found = function(*arguments, **(NONE if per_row else {}))
    torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-12)
    if per_row and case != "weighted_cross_entropy":
        torch.testing.assert_close(function(*arguments), wanted.mean(), rtol=1e-9, atol=0)


SMOOTH = [(name, False) for name in CASES if CASES[name][3]]
SMOOTH += [(name, True) for name, _ in SMOOTH if name.split(",")[0] in PER_ROW]


@pytest.mark.parametrize(("case", "per_row"), SMOOTH)
def test_gradient_agrees_with_differences(case, per_row):
    function, _, arguments, differentiable = CASES[case]
    if case == "uncertainty_kl":  # the weight carries no gradient, so only the second argument's is the whole
        differentiable = (1,)
    leaves = [arguments[i].clone().requires_grad_() for i in differentiable]

    def call(*leaves):
        full = list(arguments)
        for i, leaf in zip(differentiable, leaves):
            full[i] = leaf
        return function(*full, **(NONE if per_row else {}))

    assert gradcheck(call, leaves, atol=1e-7, rtol=1e-5)


def test_uncertainty_weight_carries_no_gradient():
    s, t = draw(40, 4, 5).requires_grad_(), draw(41, 4, 5)
    losses.uncertainty_kl(s, t).backward()
    weight = torch.tensor(oracles.uncertainty_kl(s.tolist(), t.tolist())) / torch.tensor(
        [oracles.divergence(oracles.softmax(b), oracles.softmax(a)) for a, b in zip(s.tolist(), t.tolist())]
    )
    wanted = weight[:, None] * (s.softmax(1) - t.softmax(1)) / 4
    torch.testing.assert_close(s.grad, wanted.detach().double())


@pytest.mark.parametrize("normalise", ["weights", "batch"])
def test_normaliser_of_the_weighted_cross_entropy(normalise):
    _, oracle, (logits, target, weights), _ = CASES["weighted_cross_entropy"]
    rows = oracle(logits.tolist(), target.tolist(), weights.tolist())
    share = sum(weights[target].tolist()) if normalise == "weights" else len(rows)
    found = losses.weighted_cross_entropy(logits, target, weights, normalise)
    assert float(found) == pytest.approx(sum(rows) / share, rel=1e-12)


@pytest.mark.parametrize("ratio", [0.0, 0.3, 0.5, 0.9, 1.0])
def test_choice_of_rows_agrees_with_the_slow_loop(ratio):
    for seed in range(20):
        scores = draw(seed, 23, 5).mul(2).round() / 2  # with ties
        target = torch.randint(5, (23,), generator=torch.Generator().manual_seed(seed))
        wanted = oracles.keep_reliable(scores.tolist(), target.tolist(), ratio)
        assert losses.keep_reliable(scores, target, ratio).tolist() == wanted
        assert losses.reliable_mask(scores, target, ratio).nonzero().flatten().tolist() == wanted


@pytest.mark.parametrize("case", CASES)
def test_nothing_is_read_back_from_the_device(case):
    function, _, arguments, differentiable = CASES[case]
    arguments = [a.to("meta") if isinstance(a, torch.Tensor) else a for a in arguments]  # has no data to read
    for i in differentiable:
        arguments[i].requires_grad_()
    value = function(*arguments)
    assert value.device.type == "meta"
    if differentiable:
        value.sum().backward()


TEACHERS = {
    "kd": (0, 1),
    "rkd_distance": (0, 1),
    "rkd_angle": (0, 1),
    "crp": (0, 2),
    "cra": (0, 1),
    "channel_gram, few places": (0, 1),
    "channel_gram, many places": (0, 1),
    "hint": (0, 1),
    "at": (0, 1),
    "hcl, every size": (0, 1),
    "sp": (0, 1),
    "pkt": (0, 1),
    **dict.fromkeys(
        ("target_class_kd", "other_class_kd", "inter_class_distance", "intra_class_distance"), (0, 1)
    ),
    **dict.fromkeys(("batch_relation", "class_relation", "soft_cross_entropy"), (0, 1)),
}


@pytest.mark.parametrize("case", TEACHERS)
def test_teacher_gets_no_gradient(case):
    function, _, arguments, _ = CASES[case]
    student, teacher = TEACHERS[case]
    arguments = [
        a.clone().requires_grad_(a.is_floating_point()) if isinstance(a, torch.Tensor) else a
        for a in arguments
    ]
    function(*arguments).backward()
    assert arguments[student].grad.abs().sum() > 0
    assert all(
        a.grad is None for i, a in enumerate(arguments) if i != student and isinstance(a, torch.Tensor)
    )
    assert arguments[teacher].grad is None


PAIRS = ["kd", "uncertainty_kl", "rkd_distance", "rkd_angle", "cra", "channel_gram"]
PAIRS += ["target_class_kd", "other_class_kd", "inter_class_distance", "intra_class_distance"]
PAIRS += ["batch_relation", "class_relation", "hint", "at", "hcl", "sp", "pkt"]


@pytest.mark.parametrize("name", PAIRS)
def test_student_and_teacher_have_names(name):
    case = next(c for c in CASES if c.split(",")[0] == name)
    s, t, *more = CASES[case][2]
    target = [a for a in more if isinstance(a, torch.Tensor)]  # of the decoupled ones
    names = list(inspect.signature(getattr(losses, name)).parameters)[:2]
    assert names[0].startswith("student")
    assert names[1].startswith("teacher")
    named = getattr(losses, name)(**{names[1]: t, names[0]: s}, **({"target": target[0]} if target else {}))
    assert torch.equal(named, getattr(losses, name)(s, t, *target))


@pytest.mark.parametrize(
    ("message", "call"),
    [
        *(
            (
                'reduction must be "mean" or "none"',
                lambda n=n: getattr(losses, n)(*CASES[n][2], reduction="sum"),
            )
            for n in PER_ROW
        ),
        (
            "normalise must be",
            lambda: losses.weighted_cross_entropy(*CASES["weighted_cross_entropy"][2], "x"),
        ),
        ("four views", lambda: losses.view_similarity(draw(0, 6, 2))),
        ("keep_ratio must lie", lambda: losses.keep_reliable(draw(0, 3, 3), LABELS[:3], 1.5)),
        ("n_positives must lie", lambda: losses.nce(positive(draw(0, 2, 3)), 0, 9)),
        (r"must be \(B, V, D\)", lambda: losses.supcon(draw(0, 2, 3), LABELS[:2])),
        ("delta must be positive", lambda: losses.cra(draw(0, 4, 3), draw(1, 4, 3), 0)),
        ("The maps must be", lambda: losses.channel_gram(draw(0, 1, 2, 3, 3), draw(0, 1, 3, 3, 3))),
        ("must be alike", lambda: losses.hint(draw(0, 1, 2, 3, 3), draw(0, 1, 3, 3, 3))),
        ("must be alike", lambda: losses.hcl(draw(0, 1, 2, 3, 3), draw(0, 1, 2, 2, 2))),
        ("must be alike", lambda: losses.at(draw(0, 1, 2, 3, 3), draw(0, 1, 2, 2, 3))),
    ],
)
def test_wrong_arguments_are_refused_in_a_sentence(message, call):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("keep_ratio", [0.0, 0.4, 1.0])
def test_selective_kd_is_the_mean_of_kd_over_the_rows_kept(keep_ratio):
    generator = torch.Generator().manual_seed(8)
    student, teacher = (torch.randn(12, 5, generator=generator, dtype=torch.float64) for _ in range(2))
    target = torch.randint(0, 5, (12,), generator=generator)
    kept = losses.keep_reliable(teacher, target, keep_ratio).tolist()
    rows = oracles.kd(student.tolist(), teacher.tolist(), 3.0)
    each = [rows[i] for i in kept]
    expected = sum(each) / len(each) if each else 0.0
    assert float(losses.selective_kd(student, teacher, target, keep_ratio, 3.0)) == pytest.approx(
        expected, rel=1e-9
    )


def test_distillation_is_the_sum_of_its_decoupled_parts():
    student, teacher, target, temperature = CASES["target_class_kd"][2]
    parts = [
        part(student, teacher, target, temperature, **NONE)
        for part in (losses.target_class_kd, losses.other_class_kd)
    ]
    wrong = 1 - (teacher / temperature).softmax(1)[torch.arange(len(target)), target]
    whole = losses.kd(student, teacher, temperature, **NONE)
    torch.testing.assert_close(parts[0] + wrong * parts[1], whole, rtol=1e-12, atol=0)


def test_effective_numbers_span_equal_weights_to_inverse_frequencies():
    counts = torch.tensor([100, 25, 0, 4])
    equal, inverse = (losses.effective_number_weights(counts, beta) for beta in (0.0, 1 - 1e-12))
    torch.testing.assert_close(equal, torch.tensor([4 / 3, 4 / 3, 0, 4 / 3]))  # an absent class has none
    torch.testing.assert_close(inverse * counts / (inverse[0] * 100), torch.tensor([1.0, 1.0, 0.0, 1.0]))
    assert float(inverse.sum()) == pytest.approx(4)
