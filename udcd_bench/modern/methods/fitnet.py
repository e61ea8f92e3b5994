"""FitNet: a middle map of the student, through a regressor, imitates the teacher's.

Romero, Ballas, Ebrahimi Kahou, Chassang, Gatta, Bengio, "FitNets: hints for thin deep nets", ICLR 2015,
https://arxiv.org/abs/1412.6550.

L = L_WCE + hint_weight · L_HT; student and teacher see the same view
  L_HT = mean (r(g) − h)²: h the teacher's map at its level ``level``, g the student's there, r a 1×1 convolution to the
    teacher's channels (eq. 3)

Differs from the paper:
1. It trains by L_HT alone, up to the guided layer, then by softened targets (eq. 2) alone. Here hint and cross-entropy
   train together, without softened targets, as in the benchmark released with CRD (O:CRD), whose weight is taken.
2. Eq. 3 is half a sum; the mean is O:CRD's. The regressor has neither O:CRD's batch norm nor its ReLU, since the end of
   a level may be negative; the paper has both networks' own activation.
3. A level's map has the size that its backbone gives it; the larger of the two is averaged to the smaller. The paper
   chooses the regressor's kernel so that sizes agree.
4. The cross-entropy is weighted by class, as every row's; the teacher is the Scratch run of the same fold and seed (S).
"""

from torch import nn

from udcd_bench import losses, method


class Method(method.BaseMethod):
    """Cross-entropy, and a hint from a middle level of a trained teacher."""

    title = "FitNet"
    citation = "Romero et al., FitNets: hints for thin deep nets, ICLR 2015"
    family = "features"
    teacher = "trained"
    levels = True
    hparams = {
        "hint_weight": 100.0,  # O:CRD
        "level": 3,  # O (the middle); counted from the deepest, which is 1
    }
    choices = {"level": (1, 2, 3, 4)}

    def setup(self):
        level = self.hp.level
        self.regressor = nn.Conv2d(self.info.student_levels[-level], self.info.teacher_levels[-level], 1)

    def compute_losses(self, batch, progress):
        images, level = batch.views[0], self.hp.level
        student, teacher = self.student(images), self.run_teacher(images)
        guided, target = losses.average_to_smaller(
            student.levels[-level].float(), teacher.levels[-level].float()
        )
        hint = losses.hint(student_map=self.regressor(guided), teacher_map=target)
        return {
            "ce": self.cross_entropy(student.logits, batch.labels),
            "hint": self.hp.hint_weight * hint,
        }
