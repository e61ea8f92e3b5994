"""SP: images that the teacher finds alike are alike to the student.

Tung, Mori, "Similarity-preserving knowledge distillation", ICCV 2019, https://arxiv.org/abs/1907.09682.

L = L_WCE + sp_weight · L_SP; student and teacher see the same view
  L_SP = mean (G_s − G_t)² over the B² pairs of a batch, G = QQᵀ with rows of length one, Q the last maps of the images
    (eqs. 1 to 3)

Differs from the paper:
1. It compares every pair of maps that it names; the last one alone is the choice of the benchmark released with CRD,
   whose code says that the author has checked it.
2. The cross-entropy is weighted by class, as every row's; the teacher is the Scratch run of the same fold and seed (S).
"""

from udcd_bench import losses, method


class Method(method.BaseMethod):
    """Cross-entropy and the similarities within a batch of a trained teacher."""

    title = "SP"
    citation = "Tung, Mori, Similarity-preserving knowledge distillation, ICCV 2019"
    family = "relations"
    teacher = "trained"
    hparams = {
        "sp_weight": 3000.0,  # O, its γ
    }

    def compute_losses(self, batch, progress):
        images = batch.views[0]
        student, teacher = self.student(images), self.run_teacher(images)
        sp = losses.sp(student_map=student.feature_map, teacher_map=teacher.feature_map)
        return {
            "ce": self.cross_entropy(student.logits, batch.labels),
            "sp": self.hp.sp_weight * sp,
        }
