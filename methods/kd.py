"""KD: the student imitates a trained teacher's softened predictions.

Hinton, Vinyals, Dean, "Distilling the knowledge in a neural network", 2015, https://arxiv.org/abs/1503.02531.

L = ce_weight · L_WCE + kd_weight · T² · KL(softmax(t/T) ‖ softmax(s/T)); teacher and student see the same view.

Differs from the paper:
1. The UDCD paper has this row in Table 1 only; the suite runs it in both.
2. The UDCD paper leaves the teacher open; this row's teacher is the Scratch run of the same fold and seed (S).
"""

from udcd_bench import losses, method


class Method(method.BaseMethod):
    """Cross-entropy and softened targets of a trained teacher."""

    title = "KD"
    citation = "Hinton, Vinyals, Dean, Distilling the knowledge in a neural network, 2015"
    teacher = "trained"
    hparams = {
        "temperature": 4.0,  # O
        "ce_weight": 0.1,  # O
        "kd_weight": 0.9,  # O
    }

    def compute_losses(self, batch, progress):
        images = batch.views[0]
        student, teacher = self.student(images), self.run_teacher(images)
        kd = losses.kd(
            student_logits=student.logits, teacher_logits=teacher.logits, temperature=self.hp.temperature
        )
        ce = self.cross_entropy(student.logits, batch.labels)
        return {"ce": self.hp.ce_weight * ce, "kd": self.hp.kd_weight * kd}
