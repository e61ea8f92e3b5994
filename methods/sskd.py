"""SSKD: the student also imitates what a trained teacher's self-supervision knows of an image and its turns.

Xu, Liu, Li, Loy, "Knowledge distillation meets self-supervision", ECCV 2020, https://arxiv.org/abs/2006.07114;
section 3.

Every image comes upright and turned by 90°, 180° and 270°. A head (F → F → F, ReLU) on ``pooled`` gives each of
the 4B views a vector; the table A (3B, B) holds the cosine of every turned view with every upright image.
  stage "head":  teacher at rest, its head by CE(A_t, own image)
  stage "train": L = 0.1·L_WCE + 0.9·KD(upright; T=4) + 2.7·KD(turned; T=4) + 10·KD(A; T=0.5),  KD = T²·KL(t ‖ s)
The last two skip the rows that the teacher gets most wrong, by the rank it gives the right class, or own image.

Differs from the paper:
1. Its ECCV text prints the weights 3.0 and 5.0, its arXiv text and its code 2.7 and 10; the latter are followed.
2. The cross-entropy is class-weighted, as in every row (S).
3. The four views are turns of one augmented draw; its code augments each turn on its own (S).
4. The head takes ¼ of the epochs on top of the student's (O: 60 on 240), with the protocol's optimiser (S).
5. Of rows with equal rank the first are kept; its code leaves the choice to an unstable sort (S).
"""

import torch
import torch.nn.functional as F
from torch import nn

from udcd_bench import losses, method
from udcd_bench.data.batches.augment import rotate_four_ways


def make_head(width):
    """F → F → F with a ReLU between."""
    return nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width))


class Method(method.BaseMethod):
    """Distillation of predictions, and of similarities between turned and upright images."""

    title = "SSKD"
    citation = "Xu, Liu, Li, Loy, Knowledge distillation meets self-supervision, ECCV 2020"
    teacher = "trained"
    stage_shares = {"head": 0.25, "train": 1.0}  # O
    hparams = {
        "ce_weight": 0.1,  # O
        "kd_weight": 0.9,  # O
        "turned_weight": 2.7,  # O's code; see 1 above
        "similarity_weight": 10.0,  # O's code; see 1 above
        "temperature": 4.0,  # O: of predictions, upright and turned
        "similarity_temperature": 0.5,  # O
        "turned_keep": 1.0,  # O: share kept of the turned views whose class the teacher gets wrong
        "similarity_keep": 0.75,  # O: share kept of those whose own image it gets wrong
    }

    def setup(self):
        self.student_head = make_head(self.info.student_width)
        self.teacher_head = make_head(self.info.teacher_width)

    def stages(self):
        return [
            method.Stage("head", self.compute_head_losses, [self.teacher_head]),
            method.Stage("train", self.compute_losses, [self.student, self.student_head]),
        ]

    @staticmethod
    def find_own_images(labels):
        """The column of each turned view's own upright image, (3B,)."""
        return torch.arange(len(labels), device=labels.device).repeat_interleave(3)

    def compute_head_losses(self, batch, progress):
        teacher = self.run_teacher(rotate_four_ways(batch.views[0]))
        table = losses.view_similarity(self.teacher_head(teacher.pooled))
        return {"similarity": F.cross_entropy(table, self.find_own_images(batch.labels))}

    def compute_losses(self, batch, progress):
        views, hp = rotate_four_ways(batch.views[0]), self.hp
        student, teacher = self.student(views), self.run_teacher(views)
        with torch.no_grad():
            teacher_table = losses.view_similarity(self.teacher_head(teacher.pooled))
        student_table = losses.view_similarity(self.student_head(student.pooled))
        (up_s, turned_s), (up_t, turned_t) = (
            (x.logits[::4], x.logits.unflatten(0, (-1, 4))[:, 1:].flatten(0, 1)) for x in (student, teacher)
        )
        kd = losses.kd(student_logits=up_s, teacher_logits=up_t, temperature=hp.temperature)
        turned = losses.selective_kd(
            turned_s, turned_t, batch.labels.repeat_interleave(3), hp.turned_keep, hp.temperature
        )
        similarity = losses.selective_kd(
            student_table,
            teacher_table,
            self.find_own_images(batch.labels),
            hp.similarity_keep,
            hp.similarity_temperature,
        )
        return {
            "ce": hp.ce_weight * self.cross_entropy(up_s, batch.labels),
            "kd": hp.kd_weight * kd,
            "turned": hp.turned_weight * turned,
            "similarity": hp.similarity_weight * similarity,
        }
