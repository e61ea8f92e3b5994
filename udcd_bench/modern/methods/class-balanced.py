"""Class-balanced loss: a class is weighted by the inverse of its effective number of images.

Cui, Jia, Lin, Song, Belongie, "Class-balanced loss based on effective number of samples", CVPR 2019,
https://arxiv.org/abs/1901.05555; proposition 1 and section 4.1, the class-balanced softmax cross-entropy.

L = mean of w_y·(−log p_y), w_c = (1 − β)/(1 − β^n_c), scaled so that all w sum to C; n_c the images of class c.
With β → 1 these are the weights of the other rows, inverse frequencies, with β = 0 all are 1.

Differs from the paper:
1. Its forms for the sigmoid and for the focal loss (sections 4.2 and 4.3) are not here.
2. The weights take the place of the class weights of the other rows, and the sum is divided by the batch's images, as
   its code does, not by their weights.
"""

from udcd_bench import losses, method


class Method(method.BaseMethod):
    """Cross-entropy weighted by effective numbers of images."""

    title = "Class-balanced"
    citation = "Cui et al., Class-balanced loss based on effective number of samples, CVPR 2019"
    family = "imbalance"
    hparams = {
        "beta": 0.9999,  # O's code, for its long-tailed CIFAR-10
    }

    def setup(self):
        self.weights = losses.effective_number_weights(self.info.count_images(), self.hp.beta)

    def compute_losses(self, batch, progress):
        logits = self.student(batch.views[0]).logits
        return {"ce": losses.weighted_cross_entropy(logits, batch.labels, self.weights, normalise="batch")}
