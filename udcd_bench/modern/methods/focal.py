"""Focal loss: images that the network already gets right count less.

Lin, Goyal, Girshick, He, Dollár, "Focal loss for dense object detection", ICCV 2017, https://arxiv.org/abs/1708.02002;
equation 5, the α-balanced form that it uses in its experiments.

L = mean of α_y·(1 − p_y)^γ·(−log p_y), p the softmax; the gradient passes through (1 − p_y)^γ too.

Differs from the paper:
1. It classifies each class apart, by a sigmoid; p is the softmax here, as in the other rows (S).
2. α_c is the inverse frequency of class c, as its section 3.1 proposes first; its own 0.25 is for two classes. So it is
   the class-weighted cross-entropy of the other rows with the factor (1 − p_y)^γ, normalised as they are, by Σ α_y.
3. It starts the rare class at a probability of 0.01 for stability with 100000 boxes an image; not needed here (S).
"""

from udcd_bench import losses, method


class Method(method.BaseMethod):
    """Class-weighted cross-entropy, of which certain images keep little."""

    title = "Focal"
    citation = "Lin et al., Focal loss for dense object detection, ICCV 2017"
    family = "imbalance"
    hparams = {
        "gamma": 2.0,  # O
    }

    def compute_losses(self, batch, progress):
        logits = self.student(batch.views[0]).logits
        factor = losses.focal_factor(logits, batch.labels, self.hp.gamma)
        return {"ce": self.cross_entropy(logits, batch.labels, factor)}
