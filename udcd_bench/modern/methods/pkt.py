"""PKT: the student's images have the teacher's neighbours, with the teacher's probabilities.

Passalis, Tefas, "Learning deep representations with probabilistic knowledge transfer", ECCV 2018,
https://arxiv.org/abs/1803.10837.

L = L_WCE + pkt_weight · L_PKT; student and teacher see the same view
  L_PKT = mean t_ij · log(t_ij / s_ij) over the B² pairs of a batch; t and s the probabilities, in each network, that
    image j is the neighbour of image i: their cosine similarity, brought to [0, 1], over the sum of image i's

Differs from the paper:
1. It transfers alone, or with a supervised term on the same probabilities; the cross-entropy beside it, and the weight
   for that, are those of the benchmark released with CRD (O:CRD). It is weighted by class, as every row's.
2. It leaves an image out of its own neighbours; its code, which is followed (O), does not, and divides by B².
3. The teacher is the Scratch run of the same fold and seed (S).
"""

from udcd_bench import losses, method


class Method(method.BaseMethod):
    """Cross-entropy and the neighbourhoods of a trained teacher."""

    title = "PKT"
    citation = (
        "Passalis, Tefas, Learning deep representations with probabilistic knowledge transfer, ECCV 2018"
    )
    family = "relations"
    teacher = "trained"
    hparams = {
        "pkt_weight": 30000.0,  # O:CRD
    }

    def compute_losses(self, batch, progress):
        images = batch.views[0]
        student, teacher = self.student(images), self.run_teacher(images)
        return {
            "ce": self.cross_entropy(student.logits, batch.labels),
            "pkt": self.hp.pkt_weight * losses.pkt(student=student.pooled, teacher=teacher.pooled),
        }
