"""MLKD: a trained teacher's predictions are matched image by image, image against image and class against class.

Jin, Wang, Lin, "Multi-level logit distillation", CVPR 2023,
https://openaccess.thecvf.com/content/CVPR2023/html/Jin_Multi-Level_Logit_Distillation_CVPR_2023_paper.html; its
alignments at the instance, batch and class level, each summed over the temperatures of its prediction augmentation.

L = ce_weight · L_WCE(both views) + kd_weight · Σ_T ( T²·KL(both views) + L_batch(first view) + L_class(first view) )
  L_batch = ‖P_t·P_tᵀ − P_s·P_sᵀ‖² / B, L_class = ‖P_tᵀ·P_t − P_sᵀ·P_s‖² / C, P = softmax(logits/T), (B, C)

Differs from the paper:
1. The cross-entropy is class-weighted, as in every row (S).
2. The teacher is the Scratch run of the same fold and seed (S).
3. The second view of its code is made by RandAugment; here both are the protocol's (S).
4. Its code multiplies the first view's terms by the share of images, of L_class the share of classes, of which the
   teacher is at most as sure as of the median one: about a half. Left out here (S).
5. Its code takes the first view in the place of the second at two of the five temperatures; here each has its own.
6. ``standardize`` is logit standardization (Sun et al., CVPR 2024, https://arxiv.org/abs/2403.01427) of the logits that
   the divergence compares, off by default; its authors then set ``kd_weight`` to 9, and a second 2 in place of T = 4.
"""

from udcd_bench import losses, method

TEMPERATURES = (2.0, 3.0, 4.0, 5.0, 6.0)  # O's code


class Method(method.BaseMethod):
    """Cross-entropy, and alignment with a trained teacher at three levels."""

    title = "MLKD"
    citation = "Jin, Wang, Lin, Multi-level logit distillation, CVPR 2023"
    family = "logits"
    teacher = "trained"
    views = 2
    hparams = {
        "ce_weight": 0.1,  # O's code
        "kd_weight": 0.9,  # O's code
        "standardize": False,  # O; see 6 above
    }

    def compute_instance_level(self, student_logits, teacher_logits):
        """Compute the divergence of one view's predictions, summed over the temperatures."""
        pair = {"student_logits": student_logits, "teacher_logits": teacher_logits}
        if self.hp.standardize:
            pair = {name: losses.standardize_logits(logits) for name, logits in pair.items()}
        return sum(losses.kd(**pair, temperature=T) for T in TEMPERATURES)

    def compute_losses(self, batch, progress):
        hp, ce, instance = self.hp, 0.0, 0.0
        student = [self.student(images).logits for images in batch.views]
        teacher = [self.run_teacher(images).logits for images in batch.views]
        for student_logits, teacher_logits in zip(student, teacher):
            ce = ce + self.cross_entropy(student_logits, batch.labels)
            instance = instance + self.compute_instance_level(student_logits, teacher_logits)
        first = {"student_logits": student[0], "teacher_logits": teacher[0]}
        return {
            "ce": hp.ce_weight * ce,
            "instance": hp.kd_weight * instance,
            "batch": hp.kd_weight * sum(losses.batch_relation(**first, temperature=T) for T in TEMPERATURES),
            "class": hp.kd_weight * sum(losses.class_relation(**first, temperature=T) for T in TEMPERATURES),
        }
