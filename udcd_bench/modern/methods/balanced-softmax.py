"""Balanced softmax: the softmax of training knows how many images each class has, that of testing takes all alike.

Ren, Yu, Sheng, Ma, Zhao, Yi, Li, "Balanced meta-softmax for long-tailed visual recognition", NeurIPS 2020,
https://arxiv.org/abs/2007.10740; equation 4.

L = −log( n_y·exp(s_y) / Σ_c n_c·exp(s_c) ), n_c the training fold's images of class c; the plain softmax is tested.

Differs from the paper:
1. Its second part, a sampler of classes whose rates are learned on a held-out set (section 3.2), is not here.
2. The cross-entropy is not class-weighted, as it is in the other rows: the counts take the weights' place.
3. It is ``logit-adjustment`` with τ = 1 but for rounding, and the same function computes it: n_c and the shares π_c
   differ by a factor that the softmax does not see. Both have a file because both are asked for by name.
"""

from udcd_bench import losses, method


class Method(method.BaseMethod):
    """Cross-entropy of a softmax that weighs each class by its images."""

    title = "Balanced softmax"
    citation = "Ren et al., Balanced meta-softmax for long-tailed visual recognition, NeurIPS 2020"
    family = "imbalance"

    def setup(self):
        self.counts = self.info.count_images()  # (C,)

    def compute_losses(self, batch, progress):
        logits = self.student(batch.views[0]).logits
        return {"ce": losses.logit_adjusted_cross_entropy(logits, batch.labels, self.counts, tau=1.0)}
