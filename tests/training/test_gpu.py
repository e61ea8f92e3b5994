"""What only a GPU shows; ``nox -s gpu`` runs these where one is."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from support import factories
from udcd_bench import plugins
from udcd_bench.bench import ratio
from udcd_bench.bench.step import BenchConfig, TimedMethod
from udcd_bench.data import sources
from udcd_bench.data.batches import resident
from udcd_bench.runs.profiles import TINY_DENSENET
from udcd_bench.stats import metrics
from udcd_bench.training import trainer
from udcd_bench.training.trainer import Trainer

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device"),
]


def subject(name, **changes):
    small_ones = {"backbone": TINY_DENSENET, "image_size": 32, "batch": 8, "device": "cuda", "n_train": 72}
    return TimedMethod(BenchConfig((name,), **{**small_ones, **changes}), name)


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("name", plugins.list_names("methods"))
def test_nothing_waits_for_the_device_inside_an_epoch(monkeypatch, name, streamed):
    if streamed:
        monkeypatch.setattr(resident, "compute_memory_budget", lambda device: 0)
    made = subject(name)
    assert (made.trainer.train_data.device_images is None) == streamed
    read = trainer.average_terms

    def reading(*given):
        torch.cuda.set_sync_debug_mode("default")  # once an epoch the terms are looked at
        return read(*given)

    monkeypatch.setattr(trainer, "average_terms", reading)
    for stage in made.method.stages():
        made.trainer.start_stage(stage)
        epochs = made.trainer.count_epochs(stage)
        for epoch in (0, epochs - 1):
            torch.cuda.set_sync_debug_mode("error")
            try:
                terms, images = made.trainer.run_epoch(stage, epoch)
            finally:
                torch.cuda.set_sync_debug_mode("default")
            assert images == 72 and all(np.isfinite(value) for value in terms.values())


def test_streamed_batches_are_the_resident_ones_bit_for_bit(monkeypatch):
    held = subject("scratch").trainer.train_data
    monkeypatch.setattr(resident, "compute_memory_budget", lambda device: 0)
    streamed = subject("scratch").trainer.train_data
    assert held.device_images is not None and streamed.device_images is None
    for a, b in zip(held.iterate_batches(8, 2), streamed.iterate_batches(8, 2), strict=True):
        assert torch.equal(a.index, b.index) and all(map(torch.equal, a.views, b.views))


def test_bf16_and_fp32_reach_the_same_figures_within_seed_noise(tmp_path):
    data = sources.load_dataset(
        "synthetic-lesions", size=48, data=tmp_path, n_images=1000, options=sources.LoadOptions(jobs=4)
    )
    rows = np.random.default_rng(0).permutation(1000)

    def accuracy(autocast, seed):
        device = torch.device("cuda")
        train, test = (
            resident.DeviceDataset(
                data.images, data.labels, part, device=device, order_seed=seed, augment_seed=seed
            )
            for part in (rows[:800], rows[800:])
        )
        method = factories.method("scratch", train, classes=len(data.classes), seed=seed).to(device)
        method.student.autocast = autocast
        protocol = factories.protocol(image_size=48, batch_size=32, epochs=12)
        outcome = Trainer(method, protocol, train, test).run()
        return metrics.compute_metrics(outcome.scores[-1], data.labels[rows[800:]])["acc"]

    bf16, fp32 = ([accuracy(autocast, seed) for seed in range(4)] for autocast in (True, False))
    noise = np.hypot(np.std(bf16, ddof=1), np.std(fp32, ddof=1)) / 2
    assert abs(np.mean(bf16) - np.mean(fp32)) < 4 * max(noise, 0.005), (bf16, fp32)


def test_launches_bandwidth_and_memory_are_measured():
    ask = BenchConfig(
        ("mtg",), backbone=TINY_DENSENET, image_size=32, batch=8, device="cuda", rounds=3, n_train=72
    )
    (row,) = ratio.measure_ratios(ask)["methods"]
    assert row["kernel_launches"] > 100 and 0 < row["share_of_copy_bandwidth"] < 1
    assert row["memory_peak_bytes"] > 0
