"""CRCKD: a mean teacher passes on which images belong together, and how each relates to the classes' centres.

Xing, Hou, Li, Yuan, Li, Meng, "Categorical relation-preserving contrastive knowledge distillation for medical image
classification", MICCAI 2021, https://arxiv.org/abs/2107.03225.

L = L_WCE + ccd_weight · L_CCD, and from the start epoch on + kl_weight · ramp(e) · KL(teacher ‖ student)
    + crp_weight · L_CRP
  L_CCD = nce(student against the teacher's memory) + nce(teacher against the student's memory): P positives, the image
    itself and P − 1 of its class, and K negatives of other classes; unit-length projections of the embedding
  L_CRP = KL(softmax(z_t·A_tᵀ/τ) ‖ softmax(z_s·A_sᵀ/τ)), A the unit-length class centres of each network's own memory

Differs from the paper:
1. Where the two differ, the released code (O) is followed: weights, start epoch and ramp are those of its README and
   trainer.
2. O multiplies L_CCD by its weight twice from the start epoch on: ``ccd_twice=true``.
3. O's centres average the rectified rows of memories that already have this step's embeddings; so do these.
4. The P − 1 further positives may include the image again, as in O. O fails on a class of fewer than 20 images; a class
   of fewer than 19 is sampled with replacement (S).
5. Left out (S): O takes the first step of every epoch at the rate 1e-4, divides the KL of a last, smaller batch by the
   size of a whole one, initialises the teacher independently, and has an unused attention branch.
6. ``train_projectors=false`` leaves the projections at their random start, as UDCD's released code does.
"""

import torch
import torch.nn.functional as F
from torch import nn

from udcd_bench import losses, memory, method, sampling


def turn_images(images, turns):
    """Rotate each square image (B, 3, H, H) by ``turns`` % 4 quarter turns.

    turns: (B,) int64 in [0, 8); if ``turns`` ≥ 4, the image is flipped upside down before.
    One gather, so nothing is read back from the device.
    """
    n, channels, side, _ = images.shape
    pixels = torch.arange(side * side, device=images.device).view(side, side)
    sources = torch.stack([x.rot90(k) for x in (pixels, pixels.flip(0)) for k in range(4)]).flatten(1)
    first = torch.arange(n, device=images.device) * side * side
    rows = images.permute(0, 2, 3, 1).reshape(-1, channels)
    turned = rows.index_select(0, (sources[turns] + first[:, None]).flatten())
    return turned.view(n, side, side, channels).permute(0, 3, 1, 2)


class Method(method.BaseMethod):
    """Cross-entropy, class-guided contrast, consistency and relations to the classes."""

    title = "CRCKD"
    citation = "Xing et al., Categorical relation-preserving contrastive knowledge distillation, MICCAI 2021"
    teacher = "ema"
    views = 2
    hparams = {
        "ccd_weight": 0.1,  # O
        "kl_weight": 1.0,  # O, its ``consistency``
        "crp_weight": 1.0,  # O
        "positives": 20,  # O
        "negatives": 4096,  # O
        "temperature": 0.07,  # O: of the contrast and of the relations
        "momentum": 0.5,  # O: of the memory
        "ccd_twice": False,  # S: as the paper has it (O's code: true); see 2 above
        "train_projectors": True,  # O
    }

    def setup(self):
        hp, info, width = self.hp, self.info, self.info.embedding_width
        self.student_projector = nn.Linear(width, width).requires_grad_(hp.train_projectors)
        self.teacher_projector = nn.Linear(width, width).requires_grad_(hp.train_projectors)
        self.memory = memory.ContrastMemory(
            info.n_train, width, temperature=hp.temperature, momentum=hp.momentum
        )
        self.sampler = sampling.ContrastSampler(
            info.labels, info.classes, hp.positives, hp.negatives, self.generator
        )

    def sample_turns(self, n, device):
        """Sample the turns of n images, (n,)."""
        return torch.randint(8, (n,), generator=self.generator, device=device)

    def compute_losses(self, batch, progress):
        hp, info = self.hp, self.info
        turns = self.sample_turns(len(batch.index), batch.index.device)
        student = self.student(batch.views[0])
        teacher = self.run_teacher(turn_images(batch.views[1], turns))
        z_student = F.normalize(self.student_projector(student.embedding))
        z_teacher = F.normalize(self.teacher_projector(teacher.embedding))

        scores = self.memory(z_student, z_teacher, self.sampler.sample(batch.index))  # (B, P + K) each
        self.memory.update(z_student, z_teacher, batch.index)  # before the centres, as in O
        ccd = sum(losses.nce(x, n_positives=hp.positives, n_data=info.n_train) for x in scores)
        ccd_weight = hp.ccd_weight ** (2 if hp.ccd_twice and progress.teacher_active else 1)
        terms = {"ce": self.cross_entropy(student.logits, batch.labels), "ccd": ccd_weight * ccd}
        if progress.teacher_active:
            kl = losses.kd(student_logits=student.logits, teacher_logits=teacher.logits, temperature=1.0)
            crp = losses.crp(
                student=z_student,
                student_anchors=losses.class_anchors(self.memory.student, info.labels, info.classes),
                teacher=z_teacher,
                teacher_anchors=losses.class_anchors(self.memory.teacher, info.labels, info.classes),
                temperature=hp.temperature,
            )
            terms |= {"kl": hp.kl_weight * progress.ramp * kl, "crp": hp.crp_weight * crp}
        return terms
