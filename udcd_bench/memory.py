"""The contrast memory: one embedding of every training image, for the student and for the teacher."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from udcd_bench.losses._numeric import TINY, disable_autocast, to_float64

GATHER_RATIO = 64
"""Gather the sampled rows themselves if the bank has more than this many times the sampled rows."""
PARTIAL_SUMS = 4
"""Number of partial sums of an inner product."""


class _SampledProducts(torch.autograd.Function):
    """Inner products of z (B, D) with the sampled rows of a bank (N, D), (B, n): those of all rows, gathered.

    The bank gets no gradient. Each is a sum of short sums, since a single long one loses twice as many digits; the
    gradient is one product.
    """

    @staticmethod
    def forward(ctx: Any, z: Tensor, rows: Tensor, index: Tensor) -> Tensor:
        ctx.save_for_backward(rows, index)
        inner = z.new_zeros(len(z), len(rows))
        for a, b in zip(z.chunk(PARTIAL_SUMS, 1), rows.chunk(PARTIAL_SUMS, 1)):
            inner.addmm_(a, b.T)
        return inner.gather(1, index)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        rows, index = ctx.saved_tensors
        return grad.new_zeros(len(grad), len(rows)).scatter_add_(1, index, grad) @ rows, None, None


class ContrastMemory(nn.Module):
    """Two banks of unit rows, against which the other model's embeddings are scored.

    n_data: rows of a bank, one for each training image. dim: width D of a row. temperature: τ > 0.
    momentum: m in [0, 1], the share of the old row in an updated one. Raises ValueError for other values.

    Buffers ``student`` and ``teacher`` (n_data, dim) start uniform in ±1/sqrt(dim/3); the normalisers ``z_student`` and
    ``z_teacher`` are negative until the first ``forward`` fixes them. All are part of the state.
    Tian et al., Contrastive Representation Distillation, ICLR 2020, section 3.1, as its released code has it.

    >>> memory = ContrastMemory(n_data=10, dim=2)
    >>> z = torch.nn.functional.normalize(torch.randn(3, 2))
    >>> scores_student, scores_teacher = memory(z, z, torch.tensor([[0, 5, 6], [1, 5, 7], [2, 8, 9]]))
    >>> memory.update(z, z, torch.tensor([0, 1, 2]))
    >>> scores_student.shape, torch.allclose(memory.student[:3].norm(dim=1), torch.ones(3))
    (torch.Size([3, 3]), True)
    """

    student: Tensor
    teacher: Tensor
    z_student: Tensor
    z_teacher: Tensor

    def __init__(self, n_data: int, dim: int, temperature: float = 0.07, momentum: float = 0.5) -> None:
        super().__init__()
        if n_data < 1 or dim < 1:
            raise ValueError(f"n_data and dim must be positive, not {n_data} and {dim}.")
        if temperature <= 0 or not 0 <= momentum <= 1:
            raise ValueError(
                f"temperature must be positive and momentum in [0, 1], not {temperature} and {momentum}."
            )
        self.n_data, self.dim = n_data, dim
        self.temperature, self.momentum = temperature, momentum
        bound = 1 / math.sqrt(dim / 3)
        for name in ("student", "teacher"):
            self.register_buffer(name, torch.empty(n_data, dim).uniform_(-bound, bound))
            self.register_buffer(f"z_{name}", torch.tensor(-1.0))

    def forward(self, student: Tensor, teacher: Tensor, contrast_index: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the scores of the sampled rows, (B, P + K) ≥ 0 for the student and for the teacher.

        student, teacher: (B, dim) of unit length, both with gradient. contrast_index: (B, P + K), rows of a bank, the
        image's own first. The student is scored against the teacher's bank and the teacher against the student's:
        exp(z · row / τ) / Z, with Z = mean(exp)·n_data of the first batch of all. In float32 or better.
        """
        with disable_autocast(student):
            return (
                self._compute_scores(student, self.teacher, contrast_index, self.z_student),
                self._compute_scores(teacher, self.student, contrast_index, self.z_teacher),
            )

    def _compute_scores(self, z: Tensor, bank: Tensor, index: Tensor, normaliser: Tensor) -> Tensor:
        dtype = torch.promote_types(torch.promote_types(z.dtype, bank.dtype), torch.float32)
        z, rows = z.to(dtype), bank.to(dtype)
        if self.n_data <= GATHER_RATIO * index.shape[1]:
            inner: Tensor = _SampledProducts.apply(z, rows, index)
        else:
            inner = torch.bmm(rows[index], z[:, :, None]).squeeze(2)
        # in float32 an exponent of 14 has only five digits after the point
        scores = (to_float64(inner) / self.temperature).exp()
        fresh = (scores.detach().mean() * self.n_data).to(normaliser.dtype)
        fixed = torch.where(normaliser < 0, fresh, normaliser)
        normaliser.copy_(fixed)
        return (scores / fixed).to(dtype)

    @torch.no_grad()
    def update(self, student: Tensor, teacher: Tensor, index: Tensor) -> None:
        """Move the rows ``index`` (B,) of each bank to the unit length of m·row + (1 − m)·new, m the momentum.

        student, teacher: the new rows (B, dim), of any dtype; the banks keep theirs. Their gradient is dropped.
        A method calls it once a step, in ``compute_losses``: what reads the banks before the call sees the rows of
        earlier steps, what reads them after it sees this step's too. The banks are replaced, not overwritten, so that
        the backward pass of scores that were computed before still has the rows it needs.
        Of several entries for one row the last one wins, on every device. A row that comes out zero stays zero.
        """
        # every duplicate writes what the last one writes, so the order of writing does not matter
        position = torch.arange(index.shape[0], device=index.device)
        last = (position * (index[:, None] == index)).amax(1)
        for name, new in (("student", student), ("teacher", teacher)):
            bank: Tensor = getattr(self, name)
            dtype = torch.promote_types(bank.dtype, torch.float32)
            old = bank[index].to(dtype)
            rows = self.momentum * old + (1 - self.momentum) * new.to(dtype)[last]
            rows = rows / rows.norm(dim=1, keepdim=True).clamp_min(TINY)
            setattr(self, name, bank.index_copy(0, index, rows.to(bank.dtype)))
