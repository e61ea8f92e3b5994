"""UDCD as released: the objective of the code published with the paper, which departs from its equations.

Sharma, Kumar, Chandra, "Confidence matters: enhancing medical image classification through uncertainty-driven
contrastive self-distillation", MICCAI 2024, https://papers.miccai.org/miccai-2024/; code (R):
https://github.com/philsaurabh/UDCD_MICCAI. The row ``udcd`` is the paper's equation 8.

L = L_WCE, and from the start epoch on
  + lambda_kl · ramp(e) · mean(u(t) · KL(student ‖ teacher)) + lambda_ccd · L_CCD
  + lambda_relation · mean(u(r_s) · KL(r_t ‖ r_s))
  u(x): entropy of softmax(x) over log C, without gradient; r = z·Aᵀ/τ, A the unit-length rectified class centres
  L_CCD = nce(student against the teacher's memory) + nce(teacher against the student's), one positive, K negatives

Differs from the paper:
1. No ψ weighs the cross-entropy or the contrast (eq. 8 does both).
2. The teacher's entropy weighs the logits' divergence, whose arguments are swapped: KL(student ‖ teacher); the
   student's entropy weighs the relations', whose arguments are not.
3. The contrast is CRD's with one positive (eq. 2: positives of the batch, all other classes' rows as negatives).
4. Relations: no softmax of z·Aᵀ (eq. 3), no Huber over triplets (eqs. 4, 5); CRCKD's, with a temperature.
5. The weighted cross-entropy is divided by the batch size, not by the sum of weights: ``ce_normalise``.
6. The projections are missing from the optimiser: ``train_projectors``. The two are initialised independently.
7. The centres are those of memories that already have this step's embeddings.

Differs from the released code:
8. A memory has one row for each training image (R: 3662 rows in every fold).
9. R leaves the student in evaluation mode after the first epoch's test; ``freeze_bn_after_first_eval=true`` does so
   for any row.
"""

import torch.nn.functional as F
from torch import nn

from udcd_bench import losses, memory, method, sampling


class Method(method.BaseMethod):
    """The released objective."""

    title = "UDCD (released code)"
    citation = "Sharma, Kumar, Chandra, Confidence matters (UDCD), MICCAI 2024, released code"
    teacher = "ema"
    views = 2
    hparams = {
        "lambda_kl": 1.0,  # R, its ``consistency``
        "lambda_ccd": 0.1,  # R
        "lambda_relation": 25.0,  # R
        "negatives": 4096,  # R
        "temperature": 0.07,  # R: of the contrast and of the relations
        "momentum": 0.5,  # R: of the memory
        "train_projectors": False,  # R
    }
    protocol = {"ce_normalise": "batch"}  # R

    def setup(self):
        hp, info, width = self.hp, self.info, self.info.embedding_width
        self.student_projector = nn.Linear(width, width).requires_grad_(hp.train_projectors)
        self.teacher_projector = nn.Linear(width, width).requires_grad_(hp.train_projectors)
        self.memory = memory.ContrastMemory(
            info.n_train, width, temperature=hp.temperature, momentum=hp.momentum
        )
        self.sampler = sampling.ContrastSampler(info.labels, info.classes, 1, hp.negatives, self.generator)

    def compute_relations(self, z, bank):
        """Compute the logits (B, C) of rows z over the classes' centres in a bank."""
        centres = losses.class_anchors(bank, self.info.labels, self.info.classes)
        return losses.anchor_logits(z, centres, self.hp.temperature)

    def compute_losses(self, batch, progress):
        student = self.student(batch.views[0])
        ce = self.cross_entropy(student.logits, batch.labels)
        if not progress.teacher_active:
            return {"ce": ce}
        teacher = self.run_teacher(batch.views[1])
        z_student = F.normalize(self.student_projector(student.embedding))
        z_teacher = F.normalize(self.teacher_projector(teacher.embedding))

        # R passes the teacher as the student
        kl = losses.uncertainty_kl(student_logits=teacher.logits, teacher_logits=student.logits)
        scores = self.memory(z_student, z_teacher, self.sampler.sample(batch.index))
        ccd = sum(losses.nce(x, n_positives=1, n_data=self.info.n_train) for x in scores)
        self.memory.update(z_student, z_teacher, batch.index)  # before the centres, as in R
        relation = losses.uncertainty_kl(
            student_logits=self.compute_relations(z_student, self.memory.student),
            teacher_logits=self.compute_relations(z_teacher, self.memory.teacher).detach(),
        )
        return {
            "ce": ce,
            "kl": self.hp.lambda_kl * progress.ramp * kl,
            "ccd": self.hp.lambda_ccd * ccd,
            "relation": self.hp.lambda_relation * relation,
        }
