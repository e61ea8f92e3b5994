"""SCL-IKD: a student's encoder learns from a contrastively trained teacher's encoder; a classifier follows.

Sharma, Lodhi, Chandra, "SCL-IKD: intermediate knowledge distillation via supervised contrastive representation
learning", Applied Intelligence, 2023, https://doi.org/10.1007/s10489-023-05036-y.

The encoder ends at ``pooled``; p = ReLU(``embedding``) is its projection (128). With q = softmax(p/T), T = 10:
  stage "teacher":    L = npairs(p_t; τ=0.05)
  stage "student":    L = 0.05·npairs(p_s; τ=0.05) + 0.05·KL(q_t ‖ q_s) + 0.9·(1 − cos(q_s, q_t))
  stage "classifier": encoder frozen, L_WCE of a classifier on ``pooled``: 256, ReLU, dropout ¼, batch norm, C
The student is tested with that classifier; the network's own is neither used nor trained.

Differs from the paper:
1. The run trains its own teacher, with the teacher's backbone and the epochs of a Scratch teacher (S).
2. The stages take all, all, and a quarter of the protocol's epochs (S).
3. The cross-entropy is class-weighted, as in every row (S).
4. Optimiser, schedule and augmentation are the protocol's in every stage (S).
"""

import torch
import torch.nn.functional as F
from torch import nn

from udcd_bench import losses, method


class Method(method.BaseMethod):
    """Three stages: the teacher's encoder, the student's, a classifier."""

    title = "SCL-IKD"
    citation = "Sharma, Lodhi, Chandra, SCL-IKD, Applied Intelligence 2023"
    teacher = "own"
    stage_shares = {"teacher": 1.0, "student": 1.0, "classifier": 0.25}  # S
    hparams = {
        "contrast_weight": 0.05,  # O
        "kd_weight": 0.05,  # O
        "cosine_weight": 0.9,  # O
        "contrast_temperature": 0.05,  # O
        "temperature": 10.0,  # O: of the projections
        "hidden": 256,  # O: width of the classifier
        "dropout": 0.25,  # O
    }

    def setup(self):
        for network in (self.student, self.teacher_network):
            network.classifier.requires_grad_(False)
        self.classifier = nn.Sequential(
            nn.Linear(self.info.student_width, self.hp.hidden),
            nn.ReLU(),
            nn.Dropout(self.hp.dropout),
            nn.BatchNorm1d(self.hp.hidden),
            nn.Linear(self.hp.hidden, self.info.classes),
        )

    def stages(self):
        return [
            method.Stage("teacher", self.compute_teacher_losses, [self.teacher_network]),
            method.Stage("student", self.compute_student_losses, [self.student]),
            method.Stage("classifier", self.compute_classifier_losses, [self.classifier]),
        ]

    def compute_contrast(self, projection, labels):
        return losses.npairs(projection, labels, temperature=self.hp.contrast_temperature)

    def compute_teacher_losses(self, batch, progress):
        projection = self.teacher_network(batch.views[0]).embedding.relu()
        return {"contrast": self.compute_contrast(projection, batch.labels)}

    def compute_student_losses(self, batch, progress):
        images, hp = batch.views[0], self.hp
        student, teacher = self.student(images).embedding.relu(), self.run_teacher(images).embedding.relu()
        kd = losses.kd(student_logits=student, teacher_logits=teacher, temperature=hp.temperature)
        soft_s, soft_t = ((x / hp.temperature).softmax(1) for x in (student, teacher))
        cosine = F.cosine_similarity(soft_s, soft_t).mean()
        return {
            "contrast": hp.contrast_weight * self.compute_contrast(student, batch.labels),
            "kd": hp.kd_weight * kd / hp.temperature**2,  # O has no T² here
            "cosine": hp.cosine_weight * (1 - cosine),
        }

    def compute_classifier_losses(self, batch, progress):
        with torch.no_grad():
            pooled = self.student(batch.views[0]).pooled
        return {"ce": self.cross_entropy(self.classifier(pooled), batch.labels)}

    def predict(self, images):
        features = self.student(images)
        return features._replace(logits=self.classifier(features.pooled))

    def get_inference_state_dict(self):
        return super().get_inference_state_dict() | self.classifier.state_dict(prefix="head.")
