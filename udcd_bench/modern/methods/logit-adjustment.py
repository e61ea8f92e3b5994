"""Logit adjustment: rare classes must win by a margin that grows as their share shrinks.

Menon, Jayasumana, Rawat, Jain, Veit, Kumar, "Long-tail learning via logit adjustment", ICLR 2021,
https://arxiv.org/abs/2007.07314; equation 10, the logit-adjusted softmax cross-entropy.

L = CE(s + τ·log π, y), π_c the share of the training fold's images that class c has; s itself is tested.

Differs from the paper:
1. Its other form, which trains by the plain cross-entropy and subtracts τ·log π at test time (eq. 9), is not here.
2. The cross-entropy is not class-weighted, as it is in the other rows: the adjustment takes the weights' place.
3. With τ = 1 it is the balanced softmax (``balanced-softmax``) but for rounding.
"""

from udcd_bench import losses, method


class Method(method.BaseMethod):
    """Cross-entropy of logits to which the log of the class shares is added."""

    title = "Logit adjustment"
    citation = "Menon et al., Long-tail learning via logit adjustment, ICLR 2021"
    family = "imbalance"
    hparams = {
        "tau": 1.0,  # O
    }

    def setup(self):
        self.counts = self.info.count_images()  # (C,)

    def compute_losses(self, batch, progress):
        logits = self.student(batch.views[0]).logits
        return {"ce": losses.logit_adjusted_cross_entropy(logits, batch.labels, self.counts, self.hp.tau)}
