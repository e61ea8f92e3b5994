"""CRCKD: a mean teacher passes on which images belong together, and how each relates to the classes' centres.

Xing, Hou, Li, Yuan, Li, Meng, "Categorical relation-preserving contrastive knowledge distillation for medical image
classification", MICCAI 2021, https://arxiv.org/abs/2107.03225.

L = L_WCE + ccd_weight · L_CCD, and from the start epoch on + kl_weight · ramp(e) · KL(teacher ‖ student)
    + crp_weight · L_CRP
  L_CCD = nce(student against the teacher's memory) + nce(teacher against the student's memory): P positives, the image
    itself and P − 1 of its class, and K negatives of other classes; unit-length projections of the embedding
  L_CRP = KL(softmax(z_t·A_tᵀ/τ) ‖ softmax(z_s·A_sᵀ/τ)), A the unit-length class centres of each network's own memory

Differs from the paper:
1. It is its released code (O) that is followed: weights, start epoch and ramp are those of its read-me and trainer.
2. O multiplies L_CCD by its weight twice once the teacher's terms have begun: `ccd_twice=true`.
3. O's centres average the rectified rows of memories that already hold this step's embeddings; so do these.
4. The 19 may hold the image again, as O's may. O cannot draw from a class of fewer than 20; where fewer than 19 are
   there, these are drawn with replacement (S).
5. O makes the first step of every epoch at the rate 1e-4, divides the KL of a last, smaller batch by the size of a
   whole one, draws the teacher's first weights anew, and has an unused attention branch; none of it is here (S).
6. `train_projectors=false` leaves the projections as they were drawn, as UDCD's released code does.
"""

import torch
import torch.nn.functional as F
from torch import nn

from udcd_bench import losses, memory, method, sampling


def turn_images(images, turns):
    """Square images (B, 3, H, H) turned by `ways` % 4 quarters each; where `ways` (B,) is 4 to 7, upside down first."""
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
        "kl_weight": 1.0,  # O, its `consistency`
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
        """How n images are turned, (n,)."""
        return torch.randint(8, (n,), generator=self.generator, device=device)

    def compute_losses(self, batch, progress):
        student = self.student(batch.views[0])
        teacher = self.run_teacher(
            turn_images(batch.views[1], self.sample_turns(len(batch.index), batch.index.device))
        )
        z_student = F.normalize(self.student_projector(student.embedding))
        z_teacher = F.normalize(self.teacher_projector(teacher.embedding))

        scores = self.memory(z_student, z_teacher, self.sampler.sample(batch.index))
        self.memory.update(z_student, z_teacher, batch.index)  # the centres have this step's rows (O)
        ccd = sum(losses.nce(x, n_positives=self.hp.positives, n_data=self.info.n_train) for x in scores)
        ccd_weight = self.hp.ccd_weight ** (2 if self.hp.ccd_twice and progress.teacher_active else 1)
        terms = {"ce": self.cross_entropy(student.logits, batch.labels), "ccd": ccd_weight * ccd}
        if progress.teacher_active:
            kl = losses.kd(student_logits=student.logits, teacher_logits=teacher.logits, temperature=1.0)
            anchors_s, anchors_t = (
                losses.class_anchors(bank, self.info.labels, self.info.classes)
                for bank in (self.memory.student, self.memory.teacher)
            )
            crp = losses.crp(
                student=z_student,
                student_anchors=anchors_s,
                teacher=z_teacher,
                teacher_anchors=anchors_t,
                temperature=self.hp.temperature,
            )
            terms["kl"] = self.hp.kl_weight * progress.ramp * kl
            terms["crp"] = self.hp.crp_weight * crp
        return terms
