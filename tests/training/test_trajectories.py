"""Our methods in our loop follow other people's trainers, step by step.

Each file in `trajectories` was recorded while the original code ran on `SmallNet` in float64, on the CPU: all it
started from, every index and turn that it was given, then the loss and its parts before each step, sums and norms of
all parameters after it, and the parameters at the end. Theirs are the losses, memories, projections and trainers; ours
are the network, the data, and the places where their code asks for a GPU, an image file or a logger.

- `udcd-released`: UDCD's `fit` (github.com/philsaurabh/UDCD_MICCAI at f15d57c) entire, with its optimiser, schedule,
  running average and tests between epochs.
- `crckd`: CRCKD's training script (github.com/hathawayxxh/CRCKD at 9309d8a) entire, but for its test-set metrics.
- `crd`, `rkd`: RepDistiller's `train_distill` (github.com/HobbitLong/RepDistiller at b84f547) with its criteria; the
  optimiser, the schedule and the class weights handed to it are ours, for its own are SGD by epoch and none.
"""

from pathlib import Path

import numpy as np
import pytest
import torch

from support.factories import SmallNet
from udcd_bench import plugins
from udcd_bench.data.batches.resident import Batch
from udcd_bench.memory import ContrastMemory
from udcd_bench.method import DatasetInfo
from udcd_bench.runs.profiles import Protocol
from udcd_bench.training.trainer import Trainer

FOLDER = Path(__file__).parents[1] / "trajectories"
WIDTH = 16  # of SmallNet's embedding

# What each trainer was told, in our words: our hyper-parameters, and our protocol.
RUNS = {
    "udcd-released": (
        {"negatives": 30},
        {"epochs": 4, "start_epoch": 1, "ramp_epochs": 2, "freeze_bn_after_first_eval": True},
    ),
    "crckd": (
        {"negatives": 30, "positives": 6, "ccd_twice": True},
        {"epochs": 3, "start_epoch": 1, "ramp_epochs": 2, "weight_decay": 5e-4},
    ),
    "crd": ({"negatives": 30, "width": WIDTH}, {"epochs": 2}),
    "rkd": ({}, {"epochs": 2}),
}
# CRCKD's trainer sets this rate at the end of every epoch, so each next epoch's first step is made with it.
FIRST_RATE = {"crckd": 1e-4}


def checksums(tensors):
    """Sum and norm of each, (n, 2)."""
    return np.array([[float(x.detach().sum()), float(x.detach().norm())] for x in tensors])


def images(stored):
    """uint8 views as stored, as floats that float32 and float64 hold alike."""
    return torch.from_numpy(stored).float() / 128 - 1


class Feed:
    """Stands where the resident data stand: hands out the recorded batches, and looks at the method between steps."""

    device = torch.device("cpu")

    def __init__(self, z, look):
        self.views, self.labels, self.order = images(z["views"]), torch.from_numpy(z["labels"]), z["order"]
        self.look, self.at, self.begun = look, 0, lambda: None
        self.order_rng = torch.Generator()

    def count_steps(self, batch_size):
        return len(self.labels) // batch_size

    def iterate_batches(self, batch_size, n_views):
        self.begun()
        for _ in range(self.count_steps(batch_size)):
            index = torch.from_numpy(self.order[self.at]).long()
            yield Batch(tuple(self.views[:n_views, index]), self.labels[index], index)
            self.at += 1
            self.look()

    def iterate_images(self, batch_size):
        yield self.views[0]

    def get_state(self):
        return {}

    def restore(self, state):
        pass


@pytest.fixture
def in_double():
    before = torch.get_default_dtype(), torch.get_num_threads()
    torch.set_default_dtype(torch.float64)
    torch.set_num_threads(1)
    yield
    torch.set_default_dtype(before[0])
    torch.set_num_threads(before[1])


def load(module, z, prefix):
    """Put a recorded module's state into ours; all of it must be there."""
    state = {k.removeprefix(prefix): torch.from_numpy(v) for k, v in z.items() if k.startswith(prefix)}
    module.load_state_dict(state)


def follow(name, **changes):
    """(recorded, ours): the recording, and what our method, or a changed one, does in our loop on the same input."""
    with np.load(FOLDER / f"{name}.npz") as archive:
        z = dict(archive)
    hparams, numbers = RUNS[name]
    protocol = Protocol(batch_size=z["order"].shape[1], report_epochs=1, **numbers)
    labels, classes = torch.from_numpy(z["labels"]), len(z["class_weights"])
    student, teacher = SmallNet(classes), SmallNet(classes)
    load(student, z, "start.student.")
    load(teacher, z, "start.teacher.")
    cls = plugins.load_class("methods", name)
    normalise = changes.pop("ce_normalise", cls.protocol.get("ce_normalise", "weights"))
    info = DatasetInfo(
        n_train=len(labels),
        classes=classes,
        labels=labels,
        class_weights=torch.from_numpy(z["class_weights"]),
        student_width=student.width,
        teacher_width=teacher.width,
        embedding_width=WIDTH,
        ce_normalise=normalise,
    )
    method = cls(info, student, teacher, tuple((hparams | changes).items()))
    modules = [student, teacher]
    if "contrast" in z:
        modules += [method.student_projector, method.teacher_projector]
        load(method.student_projector, z, "start.student_projector.")
        load(method.teacher_projector, z, "start.teacher_projector.")
        for side in ("student", "teacher"):
            getattr(method.memory, side).copy_(torch.from_numpy(z[f"start.bank_{side}"]))
        method.sampler.sample = lambda index: torch.from_numpy(z["contrast"][feed.at]).long()
    if "turns" in z:
        quarters, flips = torch.from_numpy(z["turns"]).unbind(1)
        method.sample_turns = lambda n, device: (quarters + 4 * flips)[feed.at].long()

    ours = {"loss": [], "terms": [], "after": [], "banks": []}

    def losses(batch, progress):
        terms = type(method).compute_losses(method, batch, progress)
        ours["terms"].append({k: float(v.detach()) for k, v in terms.items()})
        ours["loss"].append(sum(ours["terms"][-1].values()))
        return terms

    def look():
        ours["after"].append(checksums([p for module in modules for p in module.parameters()]))
        if "contrast" in z:
            ours["banks"].append(checksums([method.memory.student, method.memory.teacher]))

    method.compute_losses = losses
    feed = Feed(z, look)
    trainer = Trainer(method, protocol, feed, feed)

    def begun():
        if name in FIRST_RATE and feed.at:
            trainer.optimiser.param_groups[0]["lr"] = FIRST_RATE[name]

    feed.begun = begun
    trainer.run()
    ours["end"] = torch.cat([p.detach().flatten() for module in modules for p in module.parameters()]).numpy()
    return z, ours


@pytest.mark.parametrize("name", RUNS)
def test_steps_are_those_of_the_original(name, in_double):
    z, ours = follow(name)
    np.testing.assert_allclose(ours["loss"], z["loss"], rtol=1e-9, atol=0)
    np.testing.assert_allclose(np.array(ours["after"]), z["after"], rtol=0, atol=1e-9)
    np.testing.assert_allclose(ours["end"], z["end"], rtol=0, atol=1e-9)
    if "contrast" in z:
        np.testing.assert_allclose(np.array(ours["banks"]), z["banks"], rtol=0, atol=1e-9)
    for term in (key.removeprefix("term.") for key in z if key.startswith("term.")):
        wanted = z[f"term.{term}"]
        found = [terms.get(term, np.nan) for terms in ours["terms"]]
        np.testing.assert_allclose(found, wanted, rtol=1e-9, atol=0, err_msg=term)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("udcd-released", {"ce_normalise": "weights"}),
        ("udcd-released", {"train_projectors": True}),
        ("udcd-released", {"momentum": 0.51}),
        ("crckd", {"ccd_twice": False}),
        ("crckd", {"train_projectors": False}),
        ("crd", {"temperature": 0.071}),
        ("rkd", {"angle_weight": 50.1}),
    ],
)
def test_another_method_departs_from_it(name, change, in_double):
    z, ours = follow(name, **change)
    assert np.abs(np.array(ours["loss"]) - z["loss"]).max() > 1e-5


@pytest.mark.parametrize("name", ["udcd-released", "crckd"])
def test_centres_of_the_memories_before_the_step_depart_from_it(name, in_double, monkeypatch):
    scores, update = ContrastMemory.forward, ContrastMemory.update

    def late(self, *rows):
        self.waiting = rows

    def forward(self, *given):
        if waiting := getattr(self, "waiting", None):
            update(self, *waiting)
        return scores(self, *given)

    monkeypatch.setattr(ContrastMemory, "update", late)
    monkeypatch.setattr(ContrastMemory, "forward", forward)
    z, ours = follow(name)
    assert np.abs(np.array(ours["loss"]) - z["loss"]).max() > 1e-5


@pytest.mark.parametrize("name", RUNS)
def test_recordings_say_something(name):
    with np.load(FOLDER / f"{name}.npz") as z:
        begun = np.isfinite(np.stack([z[k] for k in z.files if k.startswith("term.")])).all(0)
        assert begun.sum() >= 5  # steps with every term
        assert begun[-5:].all()
        moved = np.abs(z["after"][1:] - z["after"][:-1]).max(2)
        assert (
            (moved[:-1, :10] > 1e-6).any(1).all()
        )  # the student's, at every step; the schedule ends at nothing
        assert (FOLDER / f"{name}.npz").stat().st_size < 300_000
