"""MTG: a mean teacher guides the student's predictions.

Tarvainen, Valpola, "Mean teachers are better role models", NeurIPS 2017, https://arxiv.org/abs/1703.01780; as the
second baseline of Xing et al., "Categorical relation-preserving contrastive knowledge distillation", MICCAI 2021.

L = L_WCE + weight · ramp(e) · KL(softmax(t) ‖ softmax(s)), the second term from the start epoch on; the teacher's
parameters are the running average of the student's, and it gets a view of its own.

Differs from the paper: the UDCD paper prints neither the weight nor the schedule of this row; both are O:CRCKD's.
"""

from udcd_bench import losses, method


class Method(method.BaseMethod):
    """Cross-entropy and consistency with the running average."""

    title = "MTG"
    citation = "Tarvainen & Valpola, Mean teachers are better role models, NeurIPS 2017"
    teacher = "ema"
    views = 2
    hparams = {
        "weight": 1.0,  # O:CRCKD, its ``consistency``
    }

    def compute_losses(self, batch, progress):
        student = self.student(batch.views[0])
        terms = {"ce": self.cross_entropy(student.logits, batch.labels)}
        if progress.teacher_active:
            teacher = self.run_teacher(batch.views[1])
            kl = losses.kd(student_logits=student.logits, teacher_logits=teacher.logits, temperature=1.0)
            terms["kl"] = self.hp.weight * progress.ramp * kl
        return terms
