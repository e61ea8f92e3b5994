"""Self-supervision between an image and its rotations: similarity table, choice of reliable rows."""

from __future__ import annotations

import torch
from torch import Tensor

from udcd_bench.losses._numeric import normalize_rows, to_float64, use_full_precision
from udcd_bench.losses.logits import kd


@use_full_precision
def view_similarity(features: Tensor) -> Tensor:
    """Cosine of every rotated view with every upright image.

    `features` (4B, D): row 4i is image i, rows 4i+1 to 4i+3 its rotations by 90°, 180° and 270°; another
    number of rows is a ValueError. Returns (3B, B), rotated rows in order; a zero row has cosine 0.
    Xu et al., Knowledge Distillation Meets Self-Supervision (SSKD), ECCV 2020, section 3.
    """
    if features.shape[0] % 4:
        raise ValueError(f"features must hold four views an image, not {features.shape[0]} rows.")
    views = normalize_rows(features).view(-1, 4, features.shape[1])
    return views[:, 1:].flatten(0, 1) @ views[:, 0].T


def reliable_mask(scores: Tensor, target: Tensor, keep_ratio: float) -> Tensor:
    """The choice of `keep_reliable` as booleans (M,), which needs no read-back from the device."""
    if not 0 <= keep_ratio <= 1:
        raise ValueError(f"keep_ratio must lie in [0, 1], not {keep_ratio}.")
    of_target = scores.gather(1, target[:, None])
    before = torch.arange(scores.shape[1], device=scores.device) < target[:, None]
    rank = ((scores > of_target) | ((scores == of_target) & before)).sum(1)
    wrong = (rank > 0).sum()
    kept = rank.shape[0] - wrong + (keep_ratio * to_float64(wrong)).long()
    place = torch.empty_like(rank)
    place[rank.argsort(stable=True)] = torch.arange(rank.shape[0], device=rank.device)
    return place < kept


def keep_reliable(scores: Tensor, target: Tensor, keep_ratio: float) -> Tensor:
    """The rows that a teacher got right, and the share `keep_ratio` of the others that it got least wrong.

    `scores` (M, n) are the teacher's, `target` (M,) the right column, `keep_ratio` in [0, 1] (ValueError
    otherwise). A row's rank is the place of its target when sorted descending; equal scores keep the order
    of the columns and equal ranks that of the rows. Returns the sorted indices of all rows of rank 0 and of
    the int(keep_ratio · wrong) best-ranked others. The number of rows depends on the data, so a GPU is
    waited for once, unless `keep_ratio` is 1; `reliable_mask` never waits.
    Xu et al., SSKD, ECCV 2020, section 3 (selective transfer), with the ranks of its released code.
    """
    if keep_ratio == 1:
        return torch.arange(scores.shape[0], device=scores.device)
    return reliable_mask(scores, target, keep_ratio).nonzero().flatten()


def selective_kd(
    student: Tensor, teacher: Tensor, target: Tensor, keep_ratio: float, temperature: float
) -> Tensor:
    """`kd` of the rows (M, n), averaged over those that `reliable_mask` keeps by the teacher and `target` (M,).

    Xu et al., SSKD, ECCV 2020, section 3 (selective transfer). Never waits for the device; no row kept gives 0.
    """
    kept = reliable_mask(teacher, target, keep_ratio)
    rows = kd(student_logits=student, teacher_logits=teacher, temperature=temperature, reduction="none")
    return (rows * kept).sum() / kept.sum().clamp_min(1)
