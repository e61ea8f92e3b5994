"""Scratch: the network alone, supervised by class-weighted cross-entropy.

Huang, Liu, van der Maaten, Weinberger, "Densely connected convolutional networks", CVPR 2017,
https://arxiv.org/abs/1608.06993. The paper's row of that name; L = L_WCE, the first term of its equation 8.

Differs from the paper: none known.
"""

from udcd_bench import method


class Method(method.BaseMethod):
    """Cross-entropy, nothing else."""

    title = "Scratch"
    citation = "Huang et al., Densely connected convolutional networks, CVPR 2017"

    def compute_losses(self, batch, progress):
        logits = self.student(batch.views[0]).logits
        return {"ce": self.cross_entropy(logits, batch.labels)}
