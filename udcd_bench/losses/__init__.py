"""Every loss of the tables, as pure functions of tensors. Knows no method, no network and no data set.

Shapes are named B (batch), C (classes), D and F (widths), N (training images). A loss returns a scalar tensor that is
to be minimised, or one value a row with ``reduction="none"``. Arithmetic is in float32 or better, outside autocast.
"""

from udcd_bench.losses.contrast import memory_scl, nce, npairs, supcon
from udcd_bench.losses.geometry import cra, rkd_angle, rkd_distance
from udcd_bench.losses.hints import at, hcl, hint
from udcd_bench.losses.imbalance import (
    effective_number_weights,
    focal_factor,
    ldam_logits,
    logit_adjusted_cross_entropy,
)
from udcd_bench.losses.logits import (
    kd,
    normalized_entropy,
    other_class_kd,
    soft_cross_entropy,
    standardize_logits,
    target_class_kd,
    uncertainty_kl,
    weighted_cross_entropy,
)
from udcd_bench.losses.maps import average_to_smaller, channel_gram
from udcd_bench.losses.predictions import (
    batch_relation,
    class_relation,
    inter_class_distance,
    intra_class_distance,
)
from udcd_bench.losses.relations import anchor_logits, class_anchors, crp, relation_matrix
from udcd_bench.losses.similarity import pkt, sp
from udcd_bench.losses.views import (
    keep_reliable,
    match_own_image,
    reliable_mask,
    rotate_four_ways,
    selective_kd,
    sskd_terms,
    view_similarity,
)

__all__ = [
    "anchor_logits",
    "at",
    "average_to_smaller",
    "batch_relation",
    "channel_gram",
    "class_anchors",
    "class_relation",
    "cra",
    "crp",
    "effective_number_weights",
    "focal_factor",
    "hcl",
    "hint",
    "inter_class_distance",
    "intra_class_distance",
    "kd",
    "keep_reliable",
    "ldam_logits",
    "logit_adjusted_cross_entropy",
    "match_own_image",
    "memory_scl",
    "nce",
    "normalized_entropy",
    "npairs",
    "other_class_kd",
    "pkt",
    "relation_matrix",
    "reliable_mask",
    "rkd_angle",
    "rkd_distance",
    "rotate_four_ways",
    "selective_kd",
    "soft_cross_entropy",
    "sp",
    "sskd_terms",
    "standardize_logits",
    "supcon",
    "target_class_kd",
    "uncertainty_kl",
    "view_similarity",
    "weighted_cross_entropy",
]
