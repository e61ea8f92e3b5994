"""SSD-KD: SSKD's self-supervision, relations between images, and relations between channels, of a trained teacher.

Wang, Wang, Cai, Lee, Miao, Wang, "SSD-KD: a self-supervised diverse knowledge distillation method for lightweight
skin lesion classification using dermoscopic images", Medical Image Analysis 84, 2023,
https://doi.org/10.1016/j.media.2022.102693.

Every image is shown upright and turned by 90°, 180° and 270°. A head (F → F → F, ReLU) on ``pooled`` gives each of
the 4B views a vector; the table A (3B, B) is the cosine of every turned view with every upright image.
  stage "head":  the teacher is frozen, its head learns by CE(A_t, own image)
  stage "train": L = 0.1·L_WCE + 0.9·KD(upright; T=4) + 2.7·KD(turned; T=4) + 10·KD(A; T=0.5)
                   + (25·RKD_distance + 50·RKD_angle)(pooled) + 1000·‖G(adapter(M_s)) − G(M_t)‖_rms
KD = T²·KL(t ‖ s). KD(A) leaves out the quarter of the wrong rows that the teacher gets most wrong
(``similarity_keep``); KD(turned) can (``turned_keep``), by default it keeps all. M is the feature map, G its channel
Gram matrix over F·h·w, adapter a 1×1 convolution, batch norm and ReLU; RKD and Gram are over all four turns.

Differs from the paper:
1. Weights, temperatures and shares of rows are those of its released code.
2. The four views are turns of one augmented view; its code augments each turn on its own, and more strongly (S).
3. Where the maps of student and teacher differ in size, the larger is averaged down to the smaller, axis by axis;
   its code strides, or upsamples with a transposed convolution, for one pair of networks (S).
4. The head takes ¼ of the epochs on top of the student's; its code takes up to 60 on top of 150 and selects the head
   that is best on validation images (S).
5. The adapter's convolution has no bias, which its batch norm would cancel.
6. Of rows with equal rank the first are used; its code leaves the choice to an unstable sort (S).
"""

from torch import nn

from udcd_bench import losses, method


class Method(method.BaseMethod):
    """SSKD's four terms, RKD's two, and the channels' Gram matrices."""

    title = "SSD-KD"
    citation = "Wang et al., SSD-KD, Medical Image Analysis 2023"
    teacher = "trained"
    stage_shares = {"head": 0.25, "train": 1.0}  # S: as SSKD
    hparams = {
        "ce_weight": 0.1,  # O
        "kd_weight": 0.9,  # O
        "turned_weight": 2.7,  # O
        "similarity_weight": 10.0,  # O
        "distance_weight": 25.0,  # O
        "angle_weight": 50.0,  # O
        "gram_weight": 1000.0,  # O
        "temperature": 4.0,  # O: of predictions, upright and turned
        "similarity_temperature": 0.5,  # O
        "turned_keep": 1.0,  # O: of the turned views whose class the teacher gets wrong, the share used
        "similarity_keep": 0.75,  # O: of those whose own image it gets wrong, the share used
    }

    def setup(self):
        width, teacher_width = self.info.student_width, self.info.teacher_width
        self.student_head = method.make_mlp_head(width)
        self.teacher_head = method.make_mlp_head(teacher_width)
        convolution = nn.Conv2d(width, teacher_width, 1, bias=False)
        self.adapter = nn.Sequential(convolution, nn.BatchNorm2d(teacher_width), nn.ReLU())

    def stages(self):
        return [
            method.Stage("head", self.compute_head_losses, [self.teacher_head]),
            method.Stage("train", self.compute_losses, [self.student, self.student_head, self.adapter]),
        ]

    def compute_head_losses(self, batch, progress):
        teacher = self.run_teacher(losses.rotate_four_ways(batch.views[0]))
        return {"similarity": losses.match_own_image(self.teacher_head(teacher.pooled))}

    def compute_gram(self, student_map, teacher_map):
        """Compute the channel Gram term of maps (B, F, h, w) and (B, F', h', w')."""
        dtype = self.adapter[0].weight.dtype
        student_map, teacher_map = losses.average_to_smaller(student_map.to(dtype), teacher_map.to(dtype))
        return losses.channel_gram(self.adapter(student_map), teacher_map)

    def compute_losses(self, batch, progress):
        views, hp = losses.rotate_four_ways(batch.views[0]), self.hp
        student, teacher = self.student(views), self.run_teacher(views)
        terms = losses.sskd_terms(
            student_logits=student.logits,
            teacher_logits=teacher.logits,
            student_vectors=self.student_head(student.pooled),
            teacher_vectors=self.teacher_head(teacher.pooled).detach(),
            labels=batch.labels,
            temperature=hp.temperature,
            similarity_temperature=hp.similarity_temperature,
            turned_keep=hp.turned_keep,
            similarity_keep=hp.similarity_keep,
        )
        terms["distance"] = losses.rkd_distance(student=student.pooled, teacher=teacher.pooled)
        terms["angle"] = losses.rkd_angle(student=student.pooled, teacher=teacher.pooled)
        terms["gram"] = self.compute_gram(student.feature_map, teacher.feature_map)
        terms = {"ce": self.cross_entropy(student.logits[::4], batch.labels), **terms}
        return {name: getattr(hp, f"{name}_weight") * term for name, term in terms.items()}
