"""Every loss against reference values and gradients, in float64 and float32."""

from pathlib import Path

import numpy as np
import pytest
import torch

from udcd_bench import losses

GOLDENS = Path(__file__).parents[1] / "goldens"


def relations(z):
    """The two relation matrices of `crp`."""
    t = z["temperature"]
    return (
        losses.anchor_logits(z["student"], z["student_anchors"], t),
        losses.anchor_logits(z["teacher"], z["teacher_anchors"], t),
    )


def pair(function, *names, **options):
    return lambda z: function(*(z[name] for name in names), **options)


LOGITS, RELATIONS, ROWS = (
    ("student_logits", "teacher_logits"),
    ("student_relation", "teacher_relation"),
    ("student", "teacher"),
)
CRP = ("student", "student_anchors", "teacher", "teacher_anchors", "temperature")
SCL = ("anchors", "labels", "batch", "batch_labels", "bank", "bank_labels", "temperature")
MAPS = ("student_map", "teacher_map")
WCE = ("logits", "target", "class_weights")
SOFT, DECOUPLED = (*LOGITS, "temperature"), (*LOGITS, "target", "temperature")


def focal(z):
    ce = torch.nn.functional.cross_entropy(z["logits"], z["target"], reduction="none")
    return (losses.focal_factor(z["logits"], z["target"], z["gamma"]) * ce).mean()


def ldam(z):
    names = ("cosines", "target", "class_counts", "max_margin", "scale")
    return losses.weighted_cross_entropy(
        losses.ldam_logits(*(z[name] for name in names)), z["target"], z["class_weights"]
    )


def standardized_kd(z):
    pair = (losses.standardize_logits(z[name]) for name in LOGITS)
    return losses.kd(*pair, z["temperature"])


# name -> {reference: call}, where a call takes the file's content as tensors
CALLS = {
    "kd": {"loss": pair(losses.kd, *LOGITS, "temperature")},
    "uncertainty_kl": {"loss": pair(losses.uncertainty_kl, *LOGITS)},
    "uncertainty_kl_swapped": {"loss": pair(losses.uncertainty_kl, "first", "second")},
    "udcd_released_relation": {"loss": lambda z: losses.uncertainty_kl(*relations(z))},
    "confidence": {"psi1": pair(losses.normalized_entropy, "logits")},
    "weighted_cross_entropy": {
        "loss_weights": pair(losses.weighted_cross_entropy, *WCE),
        "loss_batch": pair(losses.weighted_cross_entropy, *WCE, normalise="batch"),
    },
    "rkd_distance": {"loss": pair(losses.rkd_distance, *ROWS)},
    "rkd_angle": {"loss": pair(losses.rkd_angle, *ROWS)},
    "supcon": {"loss": pair(losses.supcon, "features", "labels", "temperature")},
    "npairs": {"loss": pair(losses.npairs, "embeddings", "labels", "temperature")},
    "nce": {"loss": pair(losses.nce, "scores", "n_positives", "n_data")},
    "class_anchors": {
        "rectified": pair(losses.class_anchors, "memory", "labels", "n_classes"),
        "plain": pair(losses.class_anchors, "memory", "labels", "n_classes", rectify=False),
    },
    "crp": {"loss": pair(losses.crp, *CRP)},
    "relation_matrix": {"relation": pair(losses.relation_matrix, "z", "anchors")},
    "cra": {
        "loss": pair(losses.cra, *RELATIONS, "delta"),
        "per_anchor": pair(losses.cra, *RELATIONS, "delta", reduction="none"),
    },
    "memory_scl": {
        "loss": pair(losses.memory_scl, *SCL),
        "per_anchor": pair(losses.memory_scl, *SCL, reduction="none"),
    },
    "view_similarity": {"similarity": pair(losses.view_similarity, "features")},
    "channel_gram": {"loss": pair(losses.channel_gram, *MAPS)},
    "hint": {"loss": pair(losses.hint, *MAPS)},
    "at": {"loss": pair(losses.at, *MAPS)},
    "hcl": {"loss": pair(losses.hcl, *MAPS)},
    "sp": {"loss": pair(losses.sp, *MAPS)},
    "pkt": {"loss": pair(losses.pkt, *ROWS)},
    "logit_adjusted_cross_entropy": {
        "loss": pair(losses.logit_adjusted_cross_entropy, "logits", "target", "class_counts", "tau")
    },
    "balanced_softmax": {
        "loss": pair(losses.logit_adjusted_cross_entropy, "logits", "target", "class_counts")
    },
    "focal_factor": {"loss": focal},
    "effective_number_weights": {"weights": pair(losses.effective_number_weights, "class_counts", "beta")},
    "ldam_logits": {"loss": ldam},
    "target_class_kd": {"loss": pair(losses.target_class_kd, *DECOUPLED)},
    "other_class_kd": {"loss": pair(losses.other_class_kd, *DECOUPLED)},
    "standardize_logits": {"standardized": pair(losses.standardize_logits, "logits")},
    "standardized_kd": {"loss": standardized_kd},
    "soft_cross_entropy": {"loss": pair(losses.soft_cross_entropy, "logits", "soft_target")},
    **{
        name: {"loss": pair(getattr(losses, name), *SOFT)}
        for name in ("inter_class_distance", "intra_class_distance", "batch_relation", "class_relation")
    },
}
# reference gradient -> (the loss it belongs to, the argument); "student" stands for any student's argument
GRADIENTS = {
    "grad_student": ("loss", ("student_logits", "student_map", "student")),
    "grad_second": ("loss", ("second",)),
    "grad_weights": ("loss_weights", ("logits",)),
    "grad_batch": ("loss_batch", ("logits",)),
    "grad_features": ("loss", ("features",)),
    "grad_embeddings": ("loss", ("embeddings",)),
    "grad_scores": ("loss", ("scores",)),
    "grad_logits": ("loss", ("logits", "cosines")),
}


FILES = [
    pytest.param(name, file, id=file.stem)
    for name in CALLS
    for file in sorted(GOLDENS.glob(f"{name}_1_*.npz"))
]


def read(file, dtype):
    content = {}
    with np.load(file) as archive:
        for key in archive.files:
            value = torch.from_numpy(archive[key])
            if value.ndim == 0 and key not in ("loss", "loss_weights", "loss_batch"):
                content[key] = value.item()
            else:
                content[key] = value.to(dtype) if value.is_floating_point() else value
    return content


def relative_error(found, wanted):
    return float((found.double() - wanted.double()).abs().max() / wanted.double().abs().max())


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 1e-5)])
@pytest.mark.parametrize(("name", "file"), FILES)
def test_reference_values_and_gradients(name, file, dtype, tolerance):
    wanted, given = read(file, torch.float64), read(file, dtype)
    for key, call in CALLS[name].items():
        found = call(given)
        assert found.dtype == dtype
        assert relative_error(found, wanted[key]) <= tolerance, key
    for key, (loss, names) in GRADIENTS.items():
        if key in wanted:
            argument = next(n for n in names if n in given)
            leaf = given[argument].clone().requires_grad_()
            CALLS[name][loss]({**given, argument: leaf}).backward()
            assert relative_error(leaf.grad, wanted[key]) <= tolerance, key


@pytest.mark.parametrize("file", sorted(GOLDENS.glob("keep_reliable_*.npz")), ids=lambda f: f.stem)
def test_reference_choice_of_rows(file):
    z = read(file, torch.float64)
    kept = losses.keep_reliable(z["scores"], z["target"], z["keep_ratio"])
    assert kept.tolist() == z["kept"].tolist()


def test_every_loss_has_reference_values():
    told = {p.values[0] for p in FILES} | {"keep_reliable"}
    helpers = {"anchor_logits", "reliable_mask", "selective_kd"}  # made of crp, keep_reliable and kd
    # of view_similarity, kd and channel_gram, against slow loops in test_methods_staged
    helpers |= {"rotate_four_ways", "match_own_image", "sskd_terms", "average_to_smaller"}
    names = {
        "confidence" if name == "normalized_entropy" else name for name in losses.__all__
    }  # the files' name
    assert names - helpers <= told
    assert set(CALLS) <= told
