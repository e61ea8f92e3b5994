"""Contrastive losses: within a batch, against the scores of a memory, against the rows of a memory."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from udcd_bench.losses._numeric import (
    check_reduction,
    disable_autocast,
    make_zero_with_grad,
    normalize_rows,
    reduce,
    use_full_precision,
)

MASKED_LOGIT = -1e30
"""A logit whose softmax is zero; finite, so that a row of nothing else stays finite too."""
NEGLIGIBLE_LOGIT = -60.0
"""A logit this far below the highest adds less than float64 resolves; a CPU is slow at exp of less."""


@use_full_precision
def supcon(features: Tensor, labels: Tensor, temperature: float = 0.07) -> Tensor:
    """Compute the supervised contrastive loss L_out over the B·V views of a batch, a scalar ≥ 0.

    features: (B, V, D), rows of unit length; another number of axes is a ValueError. labels: (B,).
    The mean over the views of −1/|P| Σ_p log softmax over all other views; a view without a positive counts 0.
    Khosla et al., Supervised Contrastive Learning, NeurIPS 2020, eq. 2.
    """
    if features.dim() != 3:
        raise ValueError(f"features must be (B, V, D), not {tuple(features.shape)}.")
    rows = features.flatten(0, 1)
    classes = labels.repeat_interleave(features.shape[1])
    if rows.shape[0] < 2:
        return make_zero_with_grad(features)
    itself = torch.eye(rows.shape[0], dtype=torch.bool, device=rows.device)
    logits = rows @ rows.T / temperature
    normaliser = logits.masked_fill(itself, MASKED_LOGIT).logsumexp(1)
    positive = (classes[:, None] == classes) & ~itself
    count = positive.sum(1)
    mean_positive = (logits * positive).sum(1) / count.clamp_min(1)
    return ((normaliser - mean_positive) * (count > 0)).mean()


@use_full_precision
def npairs(embeddings: Tensor, labels: Tensor, temperature: float = 0.05) -> Tensor:
    """Compute the cross-entropy of z zᵀ/τ, self-pairs included, against the row-normalised same-label matrix.

    embeddings: (B, D), of any length; rows are scaled to unit length here, and a zero row has zero logits.
    labels: (B,). Returns a scalar ≥ 0, 0 for a batch of one or none. SCL-IKD's pairwise loss:
    Sohn, Improved Deep Metric Learning with Multi-class N-pair Loss, NeurIPS 2016, as SCL-IKD's code has it.

    >>> npairs(torch.eye(3), torch.tensor([0, 1, 2])) < npairs(torch.eye(3), torch.tensor([0, 0, 0]))
    tensor(True)
    """
    z = normalize_rows(embeddings)
    same = labels[:, None] == labels
    log_p = (z @ z.T / temperature).log_softmax(1)
    return reduce(-(log_p * same).sum(1) / same.sum(1), "mean")


def nce(scores: Tensor, n_positives: int, n_data: int) -> Tensor:
    """Compute noise-contrastive estimation over the scores of a contrast memory, a scalar ≥ 0.

    scores: (B, P + K) ≥ 0, exponentiated and divided by Z, as ``ContrastMemory`` returns them; the P positives first.
    n_positives: P ≥ 1, otherwise a ValueError. n_data: the number of images over which the noise is uniform.
    With m = K, Pn = 1/n_data, ε = 1e-7: −[Σ log(x⁺/(x⁺ + m·Pn + ε)) + P·Σ log(m·Pn/(x⁻ + m·Pn + ε))] / (B·P).
    Without negatives the second sum is empty; an empty batch gives 0. ε is in the sum in float32 too; a positive below
    the dtype's smallest normal number counts as that number.
    Tian et al., Contrastive Representation Distillation, ICLR 2020, section 3.1, with the m·Pn and ε of its
    released code; several positives as in CRCKD (MICCAI 2021).

    >>> f"{nce(torch.tensor([[9.0, 0.1, 0.1]]), n_positives=1, n_data=10):.4f}"
    '0.8329'
    """
    rows, columns = scores.shape
    if not 1 <= n_positives <= columns:
        raise ValueError(f"n_positives must lie in [1, {columns}], not {n_positives}.")
    noise, epsilon = (columns - n_positives) / n_data, 1e-7
    floor = max(torch.finfo(scores.dtype).tiny, 1e-100)
    with disable_autocast(scores):
        x = scores if scores.dtype == torch.float64 else scores.float()
        # x / (x + m·Pn + ε) = 1 / (1 + (m·Pn + ε) / x); the few positives in float64
        positives, negatives = torch.split(x, [n_positives, columns - n_positives], 1)
        positives = positives.double().clamp_min(floor)
        loss = ((noise + epsilon) / positives).log1p().sum().to(x.dtype) / n_positives
        if columns > n_positives:  # m·Pn / (x + m·Pn + ε) = 1 / (1 + (x + ε) / m·Pn)
            loss = loss + ((negatives + epsilon) / noise).log1p().sum()
        return loss / max(rows, 1)


class _Repulsion(torch.autograd.Function):
    """log Σ_k exp(z_i·m_k), (B,), over the rows m (N, D) outside the mask ``same`` (B, N); gradient for z (B, D).

    The forward pass has the softmax, so it computes the gradient too, and no tensor of B·N is saved.
    """

    @staticmethod
    def forward(ctx: Any, z: Tensor, bank: Tensor, same: Tensor) -> Tensor:
        logits = (z @ bank.T).masked_fill_(same, MASKED_LOGIT)
        highest = logits.amax(1, keepdim=True)
        weights = logits.sub_(highest).clamp_min_(NEGLIGIBLE_LOGIT).exp_()
        total = weights.sum(1, keepdim=True)
        ctx.save_for_backward(weights @ bank / total)
        return (total.log() + highest).squeeze(1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (gradient,) = ctx.saved_tensors
        return grad[:, None] * gradient, None, None


@use_full_precision
def memory_scl(
    anchors: Tensor,
    labels: Tensor,
    batch: Tensor,
    batch_labels: Tensor,
    bank: Tensor,
    bank_labels: Tensor,
    temperature: float = 0.07,
    *,
    reduction: str = "mean",
) -> Tensor:
    """Contrast the student's rows with positives of the batch and negatives of a memory.

    anchors: (B, D). batch: (M, D), M ≥ B, whose first B rows are the anchors. bank: (N, D), the memory's rows.
    Each comes with its labels. Row i is −1/|P(i)| Σ_p [z_i·z_p/τ − log Σ_k exp(z_i·m_k/τ)], with the positives P(i)
    from the batch (i itself left out) and the negatives from the rows of the bank with another label. It may be
    negative, since the denominator has no positive. An anchor without a positive, or without a negative, counts 0.
    The gradient flows to ``anchors`` and ``batch``, not to ``bank``.
    Returns a scalar or, with reduction="none", (B,); any other ``reduction`` is a ValueError.
    UDCD (MICCAI 2024), eq. 2.
    """
    check_reduction(reduction)
    if bank.shape[0] == 0:
        return reduce((anchors * 0).sum(1) + make_zero_with_grad(batch), reduction)
    size = anchors.shape[0]
    positive = labels[:, None] == batch_labels
    positive = positive & ~torch.eye(size, batch.shape[0], dtype=torch.bool, device=batch.device)
    count = positive.sum(1)
    attraction = (anchors @ batch.T * positive).sum(1) / temperature / count.clamp_min(1)
    same = labels[:, None] == bank_labels
    repulsion: Tensor = _Repulsion.apply(anchors / temperature, bank.detach(), same)
    unusable = (count == 0) | same.all(1)
    return reduce((repulsion - attraction).masked_fill(unusable, 0.0), reduction)
