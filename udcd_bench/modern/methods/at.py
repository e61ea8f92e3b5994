"""AT: the student looks where the teacher looks, at every level.

Zagoruyko, Komodakis, "Paying more attention to attention: improving the performance of convolutional neural networks
via attention transfer", ICLR 2017, https://arxiv.org/abs/1612.03928.

L = L_WCE + at_weight · Σ_j L_AT(s_j, t_j); student and teacher see the same view
  L_AT = mean (q_s/‖q_s‖ − q_t/‖q_t‖)², q the sum of squares over the channels of a map at each place (eq. 2)
  j: every level but the first, which is the stem; where one backbone has more levels, its deepest

Differs from the paper:
1. Eq. 2 has half a sum, over β; the mean, and the weight for it, are the released code's (O).
2. Its networks have three groups at equal sizes, or four; a pair of other sizes is averaged to the smaller.
3. A level of a single place, as the deepest is in small images, has an attention of 1 in any network and adds nothing.
4. The cross-entropy is weighted by class, as every row's; the teacher is the Scratch run of the same fold and seed (S).
"""

from udcd_bench import losses, method


class Method(method.BaseMethod):
    """Cross-entropy and the attention of a trained teacher."""

    title = "AT"
    citation = "Zagoruyko, Komodakis, Paying more attention to attention, ICLR 2017"
    family = "features"
    teacher = "trained"
    levels = True
    hparams = {
        "at_weight": 1000.0,  # O, its β
    }

    def setup(self):
        self.n_levels = min(len(self.info.student_levels), len(self.info.teacher_levels)) - 1

    def compute_losses(self, batch, progress):
        images, n = batch.views[0], self.n_levels
        student, teacher = self.student(images), self.run_teacher(images)
        pairs = zip(student.levels[-n:], teacher.levels[-n:])
        at = sum(losses.at(*losses.average_to_smaller(s.float(), t.float())) for s, t in pairs)
        return {
            "ce": self.cross_entropy(student.logits, batch.labels),
            "at": self.hp.at_weight * at,
        }
