"""DIST: the student's predictions are to correlate with a trained teacher's, not to equal them.

Huang, You, Wang, Qian, Xu, "Knowledge distillation from a stronger teacher", NeurIPS 2022,
https://arxiv.org/abs/2205.10536; section 4.

L = L_WCE + β·L_inter + γ·L_intra, each T² times the mean of 1 − Pearson's correlation of both networks' probabilities
at temperature T: L_inter of each image's over the classes, L_intra of each class's over the batch's images.

Differs from the paper:
1. The cross-entropy is class-weighted, as in every row (S); the correlations are not.
2. The teacher is the Scratch run of the same fold and seed (S), of which the paper would have a stronger one.
3. ``standardize`` is logit standardization (Sun et al., CVPR 2024, https://arxiv.org/abs/2403.01427), off by default
   and not tried with DIST by its authors.
"""

from udcd_bench import losses, method


class Method(method.BaseMethod):
    """Cross-entropy and correlations with a trained teacher's predictions."""

    title = "DIST"
    citation = "Huang, You, Wang, Qian, Xu, Knowledge distillation from a stronger teacher, NeurIPS 2022"
    family = "logits"
    teacher = "trained"
    hparams = {
        "ce_weight": 1.0,  # O
        "beta": 2.0,  # O
        "gamma": 2.0,  # O
        "temperature": 4.0,  # O, for CIFAR-100; 1 for ImageNet
        "standardize": False,  # S; see 3 above
    }

    def compute_losses(self, batch, progress):
        images, hp = batch.views[0], self.hp
        student, teacher = self.student(images), self.run_teacher(images)
        ce = self.cross_entropy(student.logits, batch.labels)
        pair = {"student_logits": student.logits, "teacher_logits": teacher.logits}
        if hp.standardize:
            pair = {name: losses.standardize_logits(logits) for name, logits in pair.items()}
        inter = losses.inter_class_distance(**pair, temperature=hp.temperature)
        intra = losses.intra_class_distance(**pair, temperature=hp.temperature)
        return {"ce": hp.ce_weight * ce, "inter": hp.beta * inter, "intra": hp.gamma * intra}
