"""LDAM-DRW: rare classes must win by larger margins, and are weighted up once the features have settled.

Cao, Wei, Gaidon, Arechiga, Ma, "Learning imbalanced datasets with label-distribution-aware margin loss", NeurIPS 2019,
https://arxiv.org/abs/1906.07413; section 3.2, L_LDAM, and algorithm 1.

L = CE(s·(cos θ − m), y): cos θ between the embedding and each class's vector of the classifier, the margin m at the
label alone, m_c = n_c^(−1/4) scaled so that the largest is ``max_margin``. From ``drw_start`` of the epochs on the
cross-entropy has the class weights (1 − β)/(1 − β^n_c). s·cos θ is tested.

Differs from the paper:
1. Until ``drw_start`` the cross-entropy has no class weights, which it has in the other rows; deferring them is DRW.
2. Its algorithm 1 lowers the learning rate at the switch; here the rate is the protocol's OneCycle throughout (S).
3. The classifier's bias rests: cosines have none. The vectors are the rows of the suite's classifier, which start as
   that does (S).
"""

import torch.nn.functional as F

from udcd_bench import losses, method


class Method(method.BaseMethod):
    """Margins by class size, then class weights."""

    title = "LDAM-DRW"
    citation = (
        "Cao et al., Learning imbalanced datasets with label-distribution-aware margin loss, NeurIPS 2019"
    )
    family = "imbalance"
    hparams = {
        "max_margin": 0.5,  # O
        "scale": 30.0,  # O's code: s
        "beta": 0.9999,  # O's code: of the class weights
        "drw_start": 0.8,  # O: 160 of 200 epochs
    }

    def setup(self):
        self.counts = self.info.count_images()  # (C,)
        self.weights = losses.effective_number_weights(self.counts, self.hp.beta)
        self.student.classifier.bias.requires_grad_(False)

    def compute_cosines(self, embedding):
        """Compute the cosine of each embedding with each class's vector, (B, C)."""
        return F.linear(F.normalize(embedding), F.normalize(self.student.classifier.weight))

    def compute_losses(self, batch, progress):
        cosines = self.compute_cosines(self.student(batch.views[0]).embedding)
        logits = losses.ldam_logits(
            cosines, batch.labels, self.counts, max_margin=self.hp.max_margin, scale=self.hp.scale
        )
        is_late = progress.epoch >= self.hp.drw_start * progress.epochs
        weights = self.weights if is_late else self.weights.new_ones(len(self.weights))
        return {"ce": losses.weighted_cross_entropy(logits, batch.labels, weights)}

    def predict(self, images):
        features = self.student(images)
        return features._replace(logits=self.hp.scale * self.compute_cosines(features.embedding))
