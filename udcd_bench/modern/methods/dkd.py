"""DKD: a trained teacher's predictions in two parts, the target class against the rest, and the rest among themselves.

Zhao, Cui, Song, Qiu, Liang, "Decoupled knowledge distillation", CVPR 2022, https://arxiv.org/abs/2203.08679;
equation 7.

L = L_WCE + warm·(α·TCKD + β·NCKD), each part T² times a divergence of predictions at temperature T: TCKD of
(p_y, 1 − p_y), NCKD of the softmax over the classes but y (``losses.target_class_kd``, ``losses.other_class_kd``);
warm grows from 0 to 1 over the first ``warmup_share`` of the epochs.

Differs from the paper:
1. The cross-entropy is class-weighted, as in every row; so the two parts, which are not, meet another scale (S).
2. The teacher is the Scratch run of the same fold and seed (S).
3. Its code counts epochs from 1 and warms up over 20 of 240; the share is kept here.
4. It tunes β for each pair of networks, 8 being its code's default for CIFAR-100, which has more classes.
5. ``standardize`` is logit standardization (Sun et al., CVPR 2024, https://arxiv.org/abs/2403.01427), off by default;
   its authors then set T = 2 and multiply α and β by 9.
"""

from udcd_bench import losses, method


class Method(method.BaseMethod):
    """Cross-entropy and decoupled softened targets of a trained teacher."""

    title = "DKD"
    citation = "Zhao, Cui, Song, Qiu, Liang, Decoupled knowledge distillation, CVPR 2022"
    family = "logits"
    teacher = "trained"
    hparams = {
        "ce_weight": 1.0,  # O
        "alpha": 1.0,  # O
        "beta": 8.0,  # O's code; see 4 above
        "temperature": 4.0,  # O
        "warmup_share": 0.0833,  # O: 20 of 240 epochs
        "standardize": False,  # O; see 5 above
    }

    def compute_losses(self, batch, progress):
        images, hp = batch.views[0], self.hp
        student, teacher = self.student(images), self.run_teacher(images)
        ce = self.cross_entropy(student.logits, batch.labels)
        pair = {"student_logits": student.logits, "teacher_logits": teacher.logits}
        if hp.standardize:
            pair = {name: losses.standardize_logits(logits) for name, logits in pair.items()}
        warm = min(1.0, (progress.epoch + 1) / max(1.0, hp.warmup_share * progress.epochs))
        tckd = losses.target_class_kd(**pair, target=batch.labels, temperature=hp.temperature)
        nckd = losses.other_class_kd(**pair, target=batch.labels, temperature=hp.temperature)
        return {"ce": hp.ce_weight * ce, "tckd": warm * hp.alpha * tckd, "nckd": warm * hp.beta * nckd}
