"""Makes runs' records as the engine writes them, without a run: fixed figures from a spec's own seed."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd

from udcd_bench import plugins
from udcd_bench.artefacts.table import TableRequest
from udcd_bench.data import sources
from udcd_bench.runs import planner
from udcd_bench.runs.inputs import RunInputs, select_numbers
from udcd_bench.runs.spec import REVISION, RunSpec, derive_seed
from udcd_bench.runs.store import Store
from udcd_bench.stats import metrics
from udcd_bench.stats.metrics import METRICS

TITLES = {"aptos": "APTOS 2019", "ham10000": "HAM10000"}


def record(spec: RunSpec, **changes: Any) -> dict[str, Any]:
    """The record of a finished run. changes: replace or add fields; ``figures`` replaces single figures."""
    draws = np.random.default_rng(derive_seed(spec.format_label())).uniform(0.6, 0.9, (3, len(METRICS)))
    figures = {
        rule: {name: round(float(value), 6) for name, value in zip(METRICS, row)} | changes.get("figures", {})
        for rule, row in zip(("mean", "last", "best"), draws)
    }
    split_hash = f"{derive_seed(spec.dataset, spec.split, spec.fold):016x}"[:16]
    made = {
        "key": f"{derive_seed(spec.format_label()):016x}"[:16],
        "schema": 1,
        "files": {},
        "spec": spec.to_dict(),
        "teacher_key": None,
        "method_title": spec.method.upper(),
        "protocol": {},
        "revision": REVISION,
        "made_of": {},
        "dataset_title": sources.find_title(spec.dataset),
        "synthetic": sources.is_synthetic(spec.dataset),
        "incomplete": "",
        "classes": ["a", "b", "c"],
        "ordered": sources.is_ordered(spec.dataset),
        "split_hash": split_hash,
        "n_train": 800,
        "n_test": 200,
        "epochs": 16,
        "seconds": 12.5,
        "reporting": "mean over the last 2 epochs",
        "environment": {
            "python": "3.11.7",
            "torch": "2.9.0",
            "timm": "1.0.20",
            "device": "cpu",
            "threads": 1,
            "precision": "fp32",
            "commit": "0123456",
            "udcd_bench": "0.1.0",
        },
    }
    return made | changes | {"figures": figures}


def make_inputs(spec: RunSpec, **changes: Any) -> RunInputs:
    """What goes into the key of a run on data that nobody looks at."""
    numbers = asdict(planner.resolve_protocol(spec))
    coordinates = ("split", "fold", "seed", "fraction", "rho")
    values = {
        "method": spec.method,
        "sources": plugins.hash_sources("methods", spec.method),
        "hparams": planner.resolve_hparams(spec),
        "protocol": select_numbers(numbers),
        "backbone": spec.backbone,
        "teacher_backbone": spec.teacher_backbone,
        "weights": "none",
        "teacher_weights": "",
        "teacher_key": "",
        "data": "f" * 16,
        "data_identity": spec.data_identity,
        "ordered": False,
        "split_hash": "0" * 16,
    }
    return RunInputs(**{name: getattr(spec, name) for name in coordinates} | values | changes)


def records(specs: list[RunSpec], **changes: Any) -> dict[RunSpec, dict[str, Any]]:
    """A record for each."""
    return {spec: record(spec, **changes) for spec in specs}


def ask(profile: str = "demo", **changes: Any) -> TableRequest:
    """What a user asks for; the four methods the first suite has, unless said otherwise."""
    return TableRequest(profile, **changes)


def arrays(scores: Any, labels: Any, **more: Any) -> dict[str, Any]:
    """A run's arrays as the engine stores them, from its scores (E, n, C): every image its own group."""
    n = len(labels)
    assert scores.shape[1] == n
    plain = {
        "epochs": np.arange(len(scores)),
        "ids": np.array([f"i{i}" for i in range(n)]),
        "groups": np.arange(n),
    }
    plain["embeddings"] = np.zeros((n, 4), np.float32)
    return {"scores": scores, "labels": labels} | plain | more


def store_run(
    store: Store,
    record: dict[str, Any],
    arrays: dict[str, Any] | None = None,
    history: pd.DataFrame | None = None,
    weights: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Store a finished run, its folder made if need be; returns its record as read back.

    arrays: what ``scores.npz`` holds. history: rows of ``history.csv``; one epoch by default. weights: the student's.
    """
    store.create()
    store.finish_run(
        record["key"],
        record,
        pd.DataFrame({"stage": ["main"], "epoch": [0], "loss": [1.0], "acc": [0.5]})
        if history is None
        else history,
        arrays or {"a": [1]},
        weights or {"w": np.zeros(1)},
    )
    return store.read_record(record["key"])


def finish(
    store: Store,
    spec: RunSpec,
    *,
    n: int = 60,
    classes: tuple[str, ...] = ("a", "b", "c"),
    right: float = 0.7,
    epochs: int = 2,
    **changes: Any,
) -> dict[str, Any]:
    """Store a whole run, with scores, embeddings and history: of a fold the same n images, of the classes by turns.

    right: share of the predictions that are; also how far the classes lie apart in the embedding.
    """
    images = np.random.default_rng([spec.fold, n])
    labels = images.permutation(np.arange(n) % len(classes))
    own = np.random.default_rng(derive_seed(str(spec.to_dict())))
    hit = own.random((epochs, n)) < right
    said = np.where(hit, labels, (labels + 1 + own.integers(0, len(classes) - 1, n)) % len(classes))
    scores = (
        own.normal(0, 0.3, (epochs, n, len(classes)))
        + own.uniform(0.5, 4, n)[:, None] * np.eye(len(classes))[said]
    )
    centres = own.normal(0, 1, (len(classes), 128))
    stored = arrays(
        scores.astype(np.float32),
        labels,
        ids=np.array([f"image-{spec.fold}-{i}" for i in range(n)]),
        groups=np.arange(n) // 2,
        embeddings=(right * centres[labels] + own.normal(0, 1, (n, 128))).astype(np.float32),
    )
    made = record(
        spec, key=f"{derive_seed(str(spec.to_dict())):016x}"[:16], classes=list(classes), n_test=n, **changes
    )
    made["figures"] = metrics.summarize_epochs(scores, labels)
    history = pd.DataFrame({"stage": "train", "epoch": range(4), "loss": [2.0, 1.5, 1.2, 1 + own.random()]})
    for share, term in ((0.8, "ce"), (0.2, "cra")):
        history[f"loss_{term}"] = share * history["loss"]
        history[f"gradient_{term}"] = (1 - share) * history["loss"]
    history.loc[0, ["loss_cra", "gradient_cra"]] = np.nan  # before the teacher's terms begin
    history["acc"] = [np.nan] * (4 - epochs) + [float(row.mean()) for row in hit]
    return store_run(store, made, stored, history)
