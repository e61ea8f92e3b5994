"""PS-KD: the student's own predictions of the last epoch soften its labels, more and more as training goes on.

Kim, Ji, Yoon, Hwang, "Self-knowledge distillation with progressive refinement of targets", ICCV 2021,
https://arxiv.org/abs/2006.12000; section 3.

L = cross-entropy with the labels (1 − α_t)·y + α_t·p_(t−1), which is (1 − α_t)·CE(s, y) + α_t·CE(s, p_(t−1)); p_(t−1)
is what the student predicted for the image when it trained on it in the epoch before, as its code has it, and the label
in the first epoch; α_t = alpha · t / T in epoch t of T, counted from 1.

Differs from the paper: both terms are class-weighted, by the image's label, as the cross-entropy of every row (S).
"""

import torch.nn.functional as F

from udcd_bench import losses, method


class Method(method.BaseMethod):
    """Cross-entropy with labels that the student's past predictions soften."""

    title = "PS-KD"
    citation = (
        "Kim, Ji, Yoon, Hwang, Self-knowledge distillation with progressive refinement of targets, ICCV 2021"
    )
    family = "self-distillation"
    hparams = {
        "alpha": 0.8,  # O: α_T, of the last epoch
    }

    def setup(self):
        labels = F.one_hot(self.info.labels, self.info.classes).float()
        self.register_buffer("predictions", labels)  # (N, C), of the epoch before

    def compute_losses(self, batch, progress):
        logits = self.student(batch.views[0]).logits
        alpha = self.hp.alpha * (progress.epoch + 1) / progress.epochs
        past = self.predictions[batch.index]
        soft = losses.soft_cross_entropy(logits, past, reduction="none")  # (B,)
        self.predictions[batch.index] = logits.detach().softmax(1)
        return {
            "ce": (1 - alpha) * self.cross_entropy(logits, batch.labels),
            "past": alpha * self.average_rows(soft, batch.labels),
        }
