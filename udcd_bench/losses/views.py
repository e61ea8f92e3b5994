"""Self-supervision between an image and its rotations: four views, their similarities, SSKD's terms."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from udcd_bench.losses._numeric import normalize_rows, to_float64, use_full_precision
from udcd_bench.losses.logits import kd


def rotate_four_ways(images: Tensor) -> Tensor:
    """Put each of the square images (B, C, H, H) beside its three rotations, (4B, C, H, H).

    Row 4i is image i, rows 4i+1 to 4i+3 are image i rotated by 90°, 180° and 270° anticlockwise. Pixels are moved, not
    interpolated; the memory layout is that of ``images``.

    >>> rotate_four_ways(torch.tensor([[[[1, 2], [3, 4]]]]))[:, 0].tolist()
    [[[1, 2], [3, 4]], [[2, 4], [1, 3]], [[4, 3], [2, 1]], [[3, 1], [4, 2]]]
    """
    rotated = torch.cat([images] * 4)
    for k in range(4):
        rotated[k::4] = torch.rot90(images, k, (2, 3))
    return rotated


@use_full_precision
def view_similarity(features: Tensor) -> Tensor:
    """Compute the cosine of every rotated view with every upright image, (3B, B).

    features: (4B, D), in the order of ``rotate_four_ways``; another number of rows is a ValueError. Rotated views keep
    their order; a zero row has cosine 0.
    Xu et al., Knowledge Distillation Meets Self-Supervision (SSKD), ECCV 2020, section 3.
    """
    if features.shape[0] % 4:
        raise ValueError(f"features must hold four views an image, not {features.shape[0]} rows.")
    views = normalize_rows(features).view(-1, 4, features.shape[1])
    return views[:, 1:].flatten(0, 1) @ views[:, 0].T


def match_own_image(features: Tensor) -> Tensor:
    """Compute the cross-entropy of ``view_similarity`` against each rotated view's own upright image, a scalar ≥ 0.

    features: (4B, D), in the order of ``rotate_four_ways``. The loss by which SSKD trains the teacher's head.
    Xu et al., SSKD, ECCV 2020, section 3.
    """
    similarity = view_similarity(features)
    return F.cross_entropy(similarity, _list_own_images(similarity))


def _list_own_images(similarity: Tensor) -> Tensor:
    """The column of each rotated view's own image in a table (3B, B): 0, 0, 0, 1, 1, 1, …, (3B,)."""
    return torch.arange(similarity.shape[1], device=similarity.device).repeat_interleave(3)


def reliable_mask(scores: Tensor, target: Tensor, keep_ratio: float) -> Tensor:
    """Make the choice of ``keep_reliable`` as booleans (M,), without reading anything back from the device."""
    if not 0 <= keep_ratio <= 1:
        raise ValueError(f"keep_ratio must lie in [0, 1], not {keep_ratio}.")
    target_scores = scores.gather(1, target[:, None])
    is_before = torch.arange(scores.shape[1], device=scores.device) < target[:, None]
    rank = ((scores > target_scores) | ((scores == target_scores) & is_before)).sum(1)
    n_wrong = (rank > 0).sum()
    n_reliable = rank.shape[0] - n_wrong + (keep_ratio * to_float64(n_wrong)).long()
    position = torch.empty_like(rank)
    position[rank.argsort(stable=True)] = torch.arange(rank.shape[0], device=rank.device)
    return position < n_reliable


def keep_reliable(scores: Tensor, target: Tensor, keep_ratio: float) -> Tensor:
    """Select the rows that a teacher got right, and the share ``keep_ratio`` of the others that it got least wrong.

    scores: (M, n), the teacher's. target: (M,), the right column. keep_ratio: in [0, 1], otherwise a ValueError.
    A row's rank is the position of its target when its scores are sorted descending; equal scores keep the order of
    the columns and equal ranks that of the rows. Returns the sorted indices of all rows of rank 0 and of the
    int(keep_ratio · wrong) best-ranked others. The number of rows depends on the data, so a GPU is waited for once,
    unless ``keep_ratio`` is 1; ``reliable_mask`` never waits.
    Xu et al., SSKD, ECCV 2020, section 3 (selective transfer), with the ranks of its released code.
    """
    if keep_ratio == 1:
        return torch.arange(scores.shape[0], device=scores.device)
    return reliable_mask(scores, target, keep_ratio).nonzero().flatten()


def selective_kd(
    student: Tensor, teacher: Tensor, target: Tensor, keep_ratio: float, temperature: float
) -> Tensor:
    """Average ``kd`` of the rows (M, n) over those that ``reliable_mask`` selects by the teacher and ``target`` (M,).

    A scalar ≥ 0; 0 when no row is selected. Never waits for the device.
    Xu et al., SSKD, ECCV 2020, section 3 (selective transfer).
    """
    reliable = reliable_mask(teacher, target, keep_ratio)
    rows = kd(student_logits=student, teacher_logits=teacher, temperature=temperature, reduction="none")
    return (rows * reliable).sum() / reliable.sum().clamp_min(1)


def sskd_terms(
    *,
    student_logits: Tensor,
    teacher_logits: Tensor,
    student_vectors: Tensor,
    teacher_vectors: Tensor,
    labels: Tensor,
    temperature: float,
    similarity_temperature: float,
    turned_keep: float,
    similarity_keep: float,
) -> dict[str, Tensor]:
    """Compute SSKD's three terms of distillation, unweighted scalars ≥ 0.

    Logits (4B, C) and the heads' vectors (4B, D) are in the order of ``rotate_four_ways``; labels: (B,).
    ``kd``: of the upright images. ``turned``: of the rotated ones, by ``selective_kd`` with the share ``turned_keep``.
    ``similarity``: of the rows of ``view_similarity``, at ``similarity_temperature`` with the share
    ``similarity_keep``. The teacher gets no gradient.
    Xu et al., SSKD, ECCV 2020, section 3.
    """
    similarity_t, similarity_s = view_similarity(teacher_vectors), view_similarity(student_vectors)
    (upright_s, turned_s), (upright_t, turned_t) = (
        (x[::4], x.unflatten(0, (-1, 4))[:, 1:].flatten(0, 1))  # type: ignore[no-untyped-call]
        for x in (student_logits, teacher_logits)
    )
    return {
        "kd": kd(student_logits=upright_s, teacher_logits=upright_t, temperature=temperature),
        "turned": selective_kd(turned_s, turned_t, labels.repeat_interleave(3), turned_keep, temperature),
        "similarity": selective_kd(
            similarity_s,
            similarity_t,
            _list_own_images(similarity_t),
            similarity_keep,
            similarity_temperature,
        ),
    }
