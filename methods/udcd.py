"""UDCD: uncertainty decides how much of a mean teacher's contrastive and relational knowledge reaches the student.

Sharma, Kumar, Chandra, "Confidence matters: enhancing medical image classification through uncertainty-driven
contrastive self-distillation", MICCAI 2024, https://papers.miccai.org/miccai-2024/; equations 1 to 8.

Eq. 8, per image, then the mean over the batch:
  L = (1 + ψ₂ˢ + ψ₂ᵗ)·L_WCE + λ₁·ramp·KL(teacher ‖ student) + λ₂·ψ₁ᵗ·L_SCL + λ₃·ψ₁ᵗ·L_CRA
  λ₁, λ₂, λ₃ are ``lambda_kl``, ``lambda_scl``, ``lambda_cra``
  ψ₁ = u/U, ψ₂ = 1 − u/U, u the entropy of the softmax, U = log C             (eqs. 6, 7)
  L_SCL: positives from the batch's two views, negatives from the teacher's memory (eq. 2)
  L_CRA: Huber between the Huber relations of triplets of rows of R = softmax(z·Aᵀ) (eqs. 3 to 5)

Differs from the paper:
1. It prints no λ, no schedule; λ, the start epoch and the ramp are the released code's (R).
2. It calls ψ learnable, but eq. 7 computes it; no gradient passes through it.
3. By §2.3 the student relies on supervision where the teacher is unsure; eqs. 7 and 8 do the opposite, and are
   followed. ``confidence=text`` swaps ψ₁ and ψ₂; ``confidence=none`` sets ψ₁ = 1, ψ₂ = 0 (the ablation).
4. The teacher's projection is the running average of the student's, as the rest of the teacher is (S).
5. Eq. 2 sums over an anchor's positives in both views; those of the teacher's view get no gradient (S).
6. Eqs. 2 and 5 are printed as sums over anchors and over triplets, and are means here, since λ is the released code's,
   which takes means; ``reduction=sum`` sums, which multiplies λ₂ by B and λ₃ by B·(B−1)·(B−2).
7. Eq. 3's text compares the teacher's rows with the student's anchors too, R(x_t, A_s); here each network's rows meet
   the anchors of its own memory (S, as CRCKD); ``teacher_anchors=student`` follows the text.
8. Eq. 2's I counts both views of a batch; the anchors here are the student's, which sees one view (S).
9. §2.1 has a memory "of all b training images in a batch", §2.2 one of n classes; it is one of the training set here,
   as in CRD [20], and a step's anchors and negatives are those from before the step (S).
10. The released code's readings are ``anchors=rectified``, ``relation=kl``, ``projectors=frozen``.
"""

import copy

import torch
import torch.nn.functional as F
from torch import nn

from udcd_bench import losses, memory, method


class Method(method.BaseMethod):
    """Equation 8."""

    title = "UDCD"
    citation = "Sharma, Kumar, Chandra, Confidence matters (UDCD), MICCAI 2024"
    teacher = "ema"
    views = 2
    hparams = {
        "lambda_kl": 1.0,  # R
        "lambda_scl": 0.1,  # R
        "lambda_cra": 25.0,  # R
        "temperature": 0.07,  # R
        "momentum": 0.5,  # R: of the memory
        "delta": 1.0,  # S: Huber's, the framework's default
        "confidence": "equation",  # P eqs. 7, 8; see 3 above
        "anchors": "mean",  # P eq. 3 (R rectifies)
        "teacher_anchors": "own",  # S; see 7 above
        "relation": "huber",  # P eqs. 4, 5 (R: KL of the relations)
        "reduction": "mean",  # S; see 6 above
        "projectors": "trained",  # S (R leaves them out of its optimiser)
    }
    choices = {
        "confidence": ("equation", "text", "none"),
        "anchors": ("mean", "rectified"),
        "teacher_anchors": ("own", "student"),
        "relation": ("huber", "kl"),
        "reduction": ("mean", "sum"),
        "projectors": ("trained", "frozen"),
    }

    def setup(self):
        hp, width = self.hp, self.info.embedding_width
        trained = hp.projectors == "trained"
        self.projector = nn.Linear(width, width).requires_grad_(trained)
        self.teacher_projector = copy.deepcopy(self.projector) if trained else nn.Linear(width, width)
        self.teacher_projector.requires_grad_(False)
        self.memory = memory.ContrastMemory(
            self.info.n_train, width, temperature=hp.temperature, momentum=hp.momentum
        )

    def list_ema_pairs(self):
        projectors = [(self.projector, self.teacher_projector)] if self.hp.projectors == "trained" else []
        return [*super().list_ema_pairs(), *projectors]

    def compute_psi(self, logits):
        """Compute ψ₁ and ψ₂ per image, (B,) each, without gradient (eqs. 6, 7)."""
        psi1 = losses.normalized_entropy(logits)
        if self.hp.confidence == "none":
            return torch.ones_like(psi1), torch.zeros_like(psi1)
        return (1 - psi1, psi1) if self.hp.confidence == "text" else (psi1, 1 - psi1)

    def compute_relation_alignment(self, z_student, z_teacher):
        """Compute L_CRA (or, with ``relation=kl``, CRCKD's relation loss) per image, (B,)."""
        hp, info, rectify = self.hp, self.info, self.hp.anchors == "rectified"
        anchors_s = anchors_t = losses.class_anchors(self.memory.student, info.labels, info.classes, rectify)
        if hp.teacher_anchors == "own":
            anchors_t = losses.class_anchors(self.memory.teacher, info.labels, info.classes, rectify)
        if hp.relation == "kl":
            return losses.crp(z_student, anchors_s, z_teacher, anchors_t, hp.temperature, reduction="none")
        relation_s = losses.relation_matrix(z_student, anchors_s)
        relation_t = losses.relation_matrix(z_teacher, anchors_t)
        return losses.cra(relation_s, relation_t, hp.delta, reduction="none")

    def reduce(self, values, n_tuples=1):
        """Reduce an image's mean over its tuples, (B,), to their mean over the batch, or to the sum of them all."""
        return values.mean() if self.hp.reduction == "mean" else n_tuples * values.sum()

    def compute_losses(self, batch, progress):
        hp, student = self.hp, self.student(batch.views[0])
        if not progress.teacher_active:
            return {"ce": self.cross_entropy(student.logits, batch.labels)}
        teacher = self.run_teacher(batch.views[1])
        z_student = F.normalize(self.projector(student.embedding))  # (B, D), as z_teacher
        z_teacher = F.normalize(self.teacher_projector(teacher.embedding))
        _, psi2_student = self.compute_psi(student.logits)
        psi1_teacher, psi2_teacher = self.compute_psi(teacher.logits)
        kl = losses.kd(student_logits=student.logits, teacher_logits=teacher.logits, temperature=1.0)
        scl = losses.memory_scl(  # (B,)
            anchors=z_student,
            labels=batch.labels,
            batch=torch.cat([z_student, z_teacher]),
            batch_labels=batch.labels.repeat(2),
            bank=self.memory.teacher,
            bank_labels=self.info.labels,
            temperature=hp.temperature,
            reduction="none",
        )
        cra = self.compute_relation_alignment(z_student, z_teacher)  # (B,)
        n_triplets = (len(cra) - 1) * (len(cra) - 2) if hp.relation == "huber" else 1
        self.memory.update(z_student, z_teacher, batch.index)  # after this step's terms have read it
        return {
            "ce": self.cross_entropy(student.logits, batch.labels, 1 + psi2_student + psi2_teacher),
            "kl": hp.lambda_kl * progress.ramp * kl,
            "scl": hp.lambda_scl * self.reduce(psi1_teacher * scl),
            "cra": hp.lambda_cra * self.reduce(psi1_teacher * cra, n_triplets),
        }
