"""CRD: student and teacher distinguish each other's embedding of an image from those of other classes' images.

Tian, Krishnan, Isola, "Contrastive representation distillation", ICLR 2020, https://arxiv.org/abs/1910.10699;
section 3.1, as its released code has it.

L = L_WCE + crd_weight · [nce(student against the teacher's memory) + nce(teacher against the student's memory)]
  scores exp(z·m/τ)/Z of one positive, the image itself, and K negatives; z the unit-length projections of the pooled
  features; the rows m are momentum averages of the z of earlier steps

Differs from the paper:
1. K = 4096, as in CRCKD and UDCD, instead of 16384, which is for the 50 000 images of CIFAR-100.
2. The cross-entropy is class-weighted, as in every row (S); the teacher is the Scratch run of the same fold (S).
3. The optimiser is the protocol's, Adam; its own trainer uses SGD.
"""

import torch.nn.functional as F
from torch import nn

from udcd_bench import losses, memory, method, sampling


class Method(method.BaseMethod):
    """Cross-entropy and contrast with a memory, both ways."""

    title = "CRD"
    citation = "Tian, Krishnan, Isola, Contrastive representation distillation, ICLR 2020"
    teacher = "trained"
    hparams = {
        "crd_weight": 0.8,  # O
        "negatives": 4096,  # O:CRCKD, R (O 16384)
        "width": 128,  # O: of the projections
        "temperature": 0.07,  # O
        "momentum": 0.5,  # O: of the memory
    }

    def setup(self):
        hp, info = self.hp, self.info
        self.student_projector = nn.Linear(info.student_width, hp.width)
        self.teacher_projector = nn.Linear(info.teacher_width, hp.width)
        self.memory = memory.ContrastMemory(
            info.n_train, hp.width, temperature=hp.temperature, momentum=hp.momentum
        )
        self.sampler = sampling.ContrastSampler(info.labels, info.classes, 1, hp.negatives, self.generator)

    def compute_losses(self, batch, progress):
        images = batch.views[0]
        student, teacher = self.student(images), self.run_teacher(images)
        z_student = F.normalize(self.student_projector(student.pooled))
        z_teacher = F.normalize(self.teacher_projector(teacher.pooled))
        scores = self.memory(z_student, z_teacher, self.sampler.sample(batch.index))  # (B, 1 + K) each
        crd = sum(losses.nce(x, n_positives=1, n_data=self.info.n_train) for x in scores)
        self.memory.update(z_student, z_teacher, batch.index)
        return {"ce": self.cross_entropy(student.logits, batch.labels), "crd": self.hp.crd_weight * crd}
