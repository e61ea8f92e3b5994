"""Mean teacher with label smoothing: what self-distillation has to beat, two plain means together.

Tarvainen, Valpola, "Mean teachers are better role models", NeurIPS 2017, https://arxiv.org/abs/1703.01780; Szegedy et
al., "Rethinking the Inception architecture", CVPR 2016, https://arxiv.org/abs/1512.00567, section 7.

L = CE(s, (1 − ε)·y + ε/C) + weight · ramp(e) · KL(softmax(t) ‖ softmax(s)), the second term from the start epoch on;
the teacher's parameters are the running average of the student's, and it gets a view of its own.

Differs from the papers:
1. Neither joins the two; this row does (S). It is ``mtg`` but for ε.
2. The cross-entropy is class-weighted, by the image's label, as in every row (S).
3. The divergence of predictions, its weight and its ramp are those of ``mtg``; Tarvainen and Valpola take the squared
   difference of probabilities, and other weights.
"""

import torch

from udcd_bench import losses, method


class Method(method.BaseMethod):
    """Cross-entropy with smoothed labels, and consistency with the running average."""

    title = "MT + smoothing"
    citation = "Tarvainen & Valpola, NeurIPS 2017; Szegedy et al., CVPR 2016"
    family = "self-distillation"
    teacher = "ema"
    views = 2
    hparams = {
        "epsilon": 0.1,  # O, Szegedy et al.
        "weight": 1.0,  # O:CRCKD, as in mtg
    }

    def compute_losses(self, batch, progress):
        student, epsilon = self.student(batch.views[0]), self.hp.epsilon
        uniform = torch.full_like(student.logits, 1 / self.info.classes)
        smooth = losses.soft_cross_entropy(student.logits, uniform, reduction="none")  # (B,)
        terms = {
            "ce": (1 - epsilon) * self.cross_entropy(student.logits, batch.labels),
            "smooth": epsilon * self.average_rows(smooth, batch.labels),
        }
        if progress.teacher_active:
            teacher = self.run_teacher(batch.views[1])
            kl = losses.kd(student_logits=student.logits, teacher_logits=teacher.logits, temperature=1.0)
            terms["kl"] = self.hp.weight * progress.ramp * kl
        return terms
