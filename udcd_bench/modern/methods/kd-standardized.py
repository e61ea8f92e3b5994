"""KD with standardised logits: the student imitates which classes a trained teacher prefers, not how far.

Sun, Ren, Li, Wang, Cao, "Logit standardization in knowledge distillation", CVPR 2024, https://arxiv.org/abs/2403.01427;
algorithms 1 and 2 on the loss of Hinton et al.

L = ce_weight · L_WCE + kd_weight · T² · KL(softmax(z_t/T) ‖ softmax(z_s/T)), z the logits less their mean over the
classes, divided by their standard deviation; teacher and student see the same view.

Differs from the paper:
1. The cross-entropy is class-weighted, as in every row (S).
2. The teacher is the Scratch run of the same fold and seed (S).
3. It chooses T and the weight of the second term for each pair of networks, 2 and 9 for most; those are taken.
4. ``kd`` is the row without it; ``dkd``, ``dist`` and ``mlkd`` have it as their option ``standardize``.
"""

from udcd_bench import losses, method


class Method(method.BaseMethod):
    """Cross-entropy and softened, standardised targets of a trained teacher."""

    title = "KD, standardised"
    citation = "Sun, Ren, Li, Wang, Cao, Logit standardization in knowledge distillation, CVPR 2024"
    family = "logits"
    teacher = "trained"
    hparams = {
        "temperature": 2.0,  # O
        "ce_weight": 0.1,  # O
        "kd_weight": 9.0,  # O; see 3 above
    }

    def compute_losses(self, batch, progress):
        images = batch.views[0]
        student, teacher = self.student(images), self.run_teacher(images)
        kd = losses.kd(
            student_logits=losses.standardize_logits(student.logits),
            teacher_logits=losses.standardize_logits(teacher.logits),
            temperature=self.hp.temperature,
        )
        ce = self.cross_entropy(student.logits, batch.labels)
        return {"ce": self.hp.ce_weight * ce, "kd": self.hp.kd_weight * kd}
