"""ReviewKD: each level of the teacher is imitated by all levels of the student that are as deep or deeper, fused.

Chen, Liu, Zhao, Jia, "Distilling knowledge via knowledge review", CVPR 2021, https://arxiv.org/abs/2104.09044.

L = L_WCE + review_weight · min(1, e/E) · Σ_j HCL(f_j, t_j); student and teacher see the same view
  t_j: the teacher's levels but the first, which is the stem, and ``pooled`` as a map of one place, the deepest
  f_j: the student's level j fused with what came of the deeper ones (ABF), brought to t_j's size and channels
  HCL: mean squares of f_j − t_j and of its averages over 4², 2² and 1² parts
  e: the epoch, from 0. E: ``warmup_share`` of all epochs

Differs from the paper:
1. It takes the teacher's maps before their last ReLU; here a level ends where timm says, after it in a ResNet.
2. Where one backbone has more levels than the other, its deepest are compared (S).
3. Its weight is 0.6 to 8 by pair of networks; the default is that of its code, and of its ImageNet ResNets.
4. The fusions, which training alone needs, can have several times the student's parameters; ``width`` narrows them.
5. The cross-entropy is weighted by class, as every row's; the teacher is the Scratch run of the same fold and seed (S).
"""

import torch
import torch.nn.functional as F
from torch import nn

from udcd_bench import losses, method


class Fusion(nn.Module):
    """Attention-based fusion (ABF) of a level with what the deeper ones left; ``attend`` is None for the deepest."""

    def __init__(self, channels, width, teacher_channels, is_deepest):
        super().__init__()
        self.narrow = nn.Sequential(nn.Conv2d(channels, width, 1, bias=False), nn.BatchNorm2d(width))
        self.widen = nn.Sequential(
            nn.Conv2d(width, teacher_channels, 3, padding=1, bias=False), nn.BatchNorm2d(teacher_channels)
        )
        self.attend = None if is_deepest else nn.Sequential(nn.Conv2d(2 * width, 2, 1), nn.Sigmoid())
        for layers in (self.narrow, self.widen):
            nn.init.kaiming_uniform_(layers[0].weight, a=1)

    def forward(self, level, deeper, size):
        """Return the map for a teacher's of that size, and what is left for the next, shallower level."""
        fused = self.narrow(level)
        if self.attend is not None:
            deeper = F.interpolate(deeper, fused.shape[2:])
            own, other = self.attend(torch.cat([fused, deeper], 1)).chunk(2, 1)  # (B, 1, h, w) each
            fused = fused * own + deeper * other
        if fused.shape[2:] != size:
            fused = F.interpolate(fused, size)
        return self.widen(fused), fused


class Method(method.BaseMethod):
    """Cross-entropy, and all levels of a trained teacher by way of the student's deeper ones."""

    title = "ReviewKD"
    citation = "Chen, Liu, Zhao, Jia, Distilling knowledge via knowledge review, CVPR 2021"
    family = "features"
    teacher = "trained"
    levels = True
    hparams = {
        "review_weight": 1.0,  # O
        "warmup_share": 0.0833,  # O: 20 of 240 epochs
        "width": 512,  # O: channels in the fusion, at most those of ``pooled``
    }

    def setup(self):
        info = self.info
        self.n_levels = min(len(info.student_levels), len(info.teacher_levels)) - 1
        channels = [info.student_width, *info.student_levels[: -self.n_levels - 1 : -1]]  # the deepest first
        teacher_channels = [info.teacher_width, *info.teacher_levels[: -self.n_levels - 1 : -1]]
        width = min(self.hp.width, info.student_width)
        pairs = enumerate(zip(channels, teacher_channels))
        self.fusions = nn.ModuleList(Fusion(own, width, other, i == 0) for i, (own, other) in pairs)

    def list_maps(self, features):
        """List ``pooled`` as a map and the levels that are compared, the deepest first, as float32."""
        levels = features.levels[: -self.n_levels - 1 : -1]
        return [features.pooled[:, :, None, None], *(level.float() for level in levels)]

    def compute_review(self, student, teacher):
        """Compute Σ_j HCL(f_j, t_j) of the features of both networks."""
        review, left = 0.0, None
        for fusion, own, target in zip(self.fusions, self.list_maps(student), self.list_maps(teacher)):
            fused, left = fusion(own, left, target.shape[2:])
            review = review + losses.hcl(student_map=fused, teacher_map=target)
        return review

    def compute_losses(self, batch, progress):
        images, warmup = batch.views[0], self.hp.warmup_share * progress.epochs
        student, teacher = self.student(images), self.run_teacher(images)
        warm = min(1.0, progress.epoch / warmup) if warmup else 1.0
        return {
            "ce": self.cross_entropy(student.logits, batch.labels),
            "review": self.hp.review_weight * warm * self.compute_review(student, teacher),
        }
