"""RKD: the student keeps the distances and angles between a trained teacher's embeddings of a batch.

Park, Kim, Lu, Cho, "Relational knowledge distillation", CVPR 2019, https://arxiv.org/abs/1904.05068; sections 3.2.1
(distances) and 3.2.2 (angles).

L = L_WCE + distance_weight · L_D + angle_weight · L_A, on the pooled features; teacher and student see the same view
  L_D: smooth-L1 between ‖x_i − x_j‖, each network's divided by their mean over the batch
  L_A: smooth-L1 between the cosines at x_i of every x_j and x_k

Differs from the paper:
1. Its weights depend on the data set; 25 and 50 are those of the code that others compare with (O).
2. Its classification experiments add both terms to softened targets; this row adds them to cross-entropy (O).
3. The cross-entropy is class-weighted, as in every row (S); the teacher is the Scratch run of the same fold (S).
"""

from udcd_bench import losses, method


class Method(method.BaseMethod):
    """Cross-entropy, distances and angles."""

    title = "RKD"
    citation = "Park et al., Relational knowledge distillation, CVPR 2019"
    teacher = "trained"
    hparams = {
        "distance_weight": 25.0,  # O
        "angle_weight": 50.0,  # O
    }

    def compute_losses(self, batch, progress):
        images = batch.views[0]
        student, teacher = self.student(images), self.run_teacher(images)
        distance = losses.rkd_distance(student=student.pooled, teacher=teacher.pooled)
        angle = losses.rkd_angle(student=student.pooled, teacher=teacher.pooled)
        return {
            "ce": self.cross_entropy(student.logits, batch.labels),
            "distance": self.hp.distance_weight * distance,
            "angle": self.hp.angle_weight * angle,
        }
