"""The rows with stages: what moves in which stage, losses against slow loops, other teachers, going on after a stop."""

import itertools
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from support import factories, oracles, records
from udcd_bench import plugins
from udcd_bench.data.batches.resident import Batch
from udcd_bench.errors import RunError
from udcd_bench.losses import rotate_four_ways
from udcd_bench.method import DatasetInfo, Progress
from udcd_bench.runs import planner
from udcd_bench.training import network

STAGED = ("sskd", "ssd-kd", "scl-ikd")
TEACHER = "test_resnet"  # of another family and width


def state(module):
    return {k: v.clone() for k, v in module.state_dict().items()}


def changed(before, after):
    return {k for k in before if not torch.equal(before[k], after[k])}


def small_method(name, seed=0, **hparams):
    """A method of networks of two convolutions, for what does not depend on the layers."""
    return factories.method(
        name,
        student=lambda n: factories.SmallNet(n, embedding=network.EMBEDDING_WIDTH),
        seed=seed,
        **hparams,
    )


def lists(x):
    return x.detach().double().tolist()


# --- four turns of an image -----------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_turns_are_numpys_in_the_order_that_similarity_reads(layout):
    images = torch.randn(3, 3, 5, 5).contiguous(memory_format=layout)
    turned = rotate_four_ways(images)
    assert turned.is_contiguous(memory_format=layout)
    for i, k in itertools.product(range(3), range(4)):
        wanted = np.rot90(images[i].permute(1, 2, 0).numpy(), k)
        np.testing.assert_array_equal(turned[4 * i + k].permute(1, 2, 0).numpy(), wanted)


# --- stages ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", plugins.list_names("methods"))
def test_stages_are_as_declared(name):
    method = small_method(name)
    stages = method.stages()
    assert [stage.name for stage in stages] == list(method.stage_shares)
    assert plugins.read_attributes("methods", name).get("stage_shares", {"train": 1.0}) == method.stage_shares
    assert method.stage_shares[stages[-1].name] > 0


@pytest.mark.parametrize(("name", "epochs"), [("scratch", 16), ("sskd", 20), ("ssd-kd", 20), ("scl-ikd", 36)])
def test_epochs_of_all_stages_are_planned(name, epochs):
    from udcd_bench.runs.spec import RunSpec

    class Empty:
        def get_state(self, key):
            return "absent"

    jobs = planner.plan(
        [RunSpec(name, "synthetic-fundus", "demo", "densenet-tiny")], Empty(), records.make_inputs
    )
    assert jobs[-1].epochs == epochs
    assert [job.spec.method for job in jobs[:-1]] == (["scratch"] if name in ("sskd", "ssd-kd") else [])


def test_shares_that_stages_do_not_have_are_refused():
    method = small_method("sskd")
    method.stage_shares = {"train": 1.0}
    with pytest.raises(ValueError, match="stage_shares"):
        factories.train(method)


TRAINED = {
    ("sskd", "head"): ["teacher_head"],
    ("sskd", "train"): ["student", "student_head"],
    ("ssd-kd", "head"): ["teacher_head"],
    ("ssd-kd", "train"): ["adapter", "student", "student_head"],
    ("scl-ikd", "teacher"): ["teacher_network"],
    ("scl-ikd", "student"): ["student"],
    ("scl-ikd", "classifier"): ["classifier"],
}


@pytest.mark.parametrize("name", STAGED)
def test_modules_move_in_their_stages_only(name):
    """Parameters and running statistics alike, so what rests rests in evaluation mode."""
    method = small_method(name)
    parts = dict(method.named_children())
    last, moved = {k: state(m) for k, m in parts.items()}, {}

    def report(row):
        for part, module in parts.items():
            if changed(last[part], module.state_dict()):
                moved.setdefault((name, row["stage"]), set()).add(part)
            last[part] = state(module)

    outcome = factories.train(method, report=report)
    assert {k: sorted(v) for k, v in moved.items()} == {k: v for k, v in TRAINED.items() if k[0] == name}
    assert outcome.stage == method.stages()[-1].name
    shares = [max(1, round(4 * share)) for share in method.stage_shares.values()]
    assert len(outcome.history) == sum(shares)
    rates = [row["learning_rate"] for row in outcome.history if row["epoch"] == 0]
    assert len(rates) == len(shares)
    assert max(rates) == min(rates)  # every stage has a schedule of its own
    assert outcome.epochs == list(range(shares[-1]))[-2:]


@pytest.mark.parametrize("teacher", ["densenet-tiny", TEACHER])
@pytest.mark.parametrize("autocast", [False, True], ids=["fp32", "bf16"])
@pytest.mark.parametrize("name", STAGED)
def test_finite_losses_and_a_gradient_on_every_trained_parameter(name, autocast, teacher):
    method = factories.ready_method(name, autocast=autocast, teacher_backbone=teacher)
    loop = factories.Loop(method)
    for number, stage in enumerate(method.stages()):
        terms = loop.backward(number, factories.batch())
        assert all(v.shape == () and v.isfinite() for v in terms.values())
        unused = {id(p) for p in method.parameters() if id(p) not in loop.trainer.trainable_ids}
        trained = {id(p) for module in stage.trained_modules for p in module.parameters()} - unused
        for key, p in method.named_parameters():
            if id(p) in trained:
                assert p.grad is not None, (stage.name, key)
                assert p.grad.isfinite().all(), (stage.name, key)
                assert p.grad.abs().sum() > 0, (stage.name, key)
            else:
                assert p.grad is None, (stage.name, key)


def test_every_stage_starts_from_the_same_draws():
    method = small_method("scl-ikd")
    seen = []
    stages = method.stages

    def watched():
        def watch(losses):
            def call(batch, progress):
                seen.append((progress.epoch, batch.index.tolist(), float(batch.views[0].sum())))
                return losses(batch, progress)

            return call

        found = stages()
        for stage in found:
            object.__setattr__(stage, "compute_losses", watch(stage.compute_losses))
        return found

    method.stages = watched
    factories.train(method)
    first = [x for x in seen if x[0] == 0]
    assert len(first) == 15
    assert first[:5] == first[5:10] == first[10:]


def test_start_and_ramp_scale_with_a_stage():
    method = small_method("scl-ikd")
    trainer = factories.Loop(method).trainer
    found = {}
    stages = method.stages()
    for stage in stages:
        object.__setattr__(
            stage,
            "compute_losses",
            lambda batch, progress, stage=stage: found.update({stage.name: progress}) or {},
        )
    for stage in stages:
        with pytest.raises(RunError, match="returns no term"):
            trainer.start_stage(stage)
            trainer.run_epoch(stage, 0)
    assert found["teacher"] == Progress(0, 4, 1, 2)
    assert found["classifier"] == Progress(0, 1, 0, 0)


# --- losses against slow loops --------------------------------------------------------------------------------


def turned_rows(x):
    return [row for i, row in enumerate(lists(x)) if i % 4]


def four_terms(method, student, teacher, labels):
    """SSKD's terms, with plain numbers, from the features of both networks."""
    weights = lists(method.info.class_weights)
    up_s, up_t = lists(student.logits)[::4], lists(teacher.logits)[::4]
    ce = oracles.weighted_cross_entropy(up_s, labels, weights)
    turned_s, turned_t = turned_rows(student.logits), turned_rows(teacher.logits)
    turned = oracles.kd(turned_s, turned_t, 4.0)
    table_s = oracles.view_similarity(lists(method.student_head(student.pooled)))
    table_t = oracles.view_similarity(lists(method.teacher_head(teacher.pooled)))
    kept = oracles.keep_reliable(table_t, [i // 3 for i in range(len(table_t))], 0.75)
    similarity = oracles.kd(table_s, table_t, 0.5)
    assert len(kept) < len(table_t)  # else the choice is not tested
    return {
        "ce": 0.1 * sum(ce) / sum(weights[y] for y in labels),
        "kd": 0.9 * oracles.mean(oracles.kd(up_s, up_t, 4.0)),
        "turned": 2.7 * oracles.mean(turned),
        "similarity": 10 * oracles.mean(similarity[i] for i in kept),
    }


def relations(method, student, teacher):
    """SSD-KD's further terms."""
    pooled = lists(student.pooled), lists(teacher.pooled)
    maps = method.adapter(student.feature_map), teacher.feature_map
    return {
        "distance": 25 * oracles.rkd_distance(*pooled),
        "angle": 50 * oracles.rkd_angle(*pooled),
        "gram": 1000 * oracles.channel_gram(*(lists(x.flatten(2)) for x in maps)),
    }


def head_loss(method, teacher):
    table = oracles.view_similarity(lists(method.teacher_head(teacher.pooled)))
    return oracles.mean(-math.log(oracles.softmax(row)[i // 3]) for i, row in enumerate(table))


@pytest.mark.parametrize("name", ["sskd", "ssd-kd"])
def test_losses_with_turns_equal_slow_loops(name):
    method, batch = factories.ready_method(name), factories.batch(size=6)
    larger = torch.nn.functional.interpolate(batch.views[0], scale_factor=2)  # maps of more than one place
    batch = batch._replace(views=(larger,))
    views = rotate_four_ways(larger)
    loop = factories.Loop(method)
    found_head = loop.backward(0, batch)
    wanted_head = head_loss(method, method.teacher_network(views))
    assert found_head.keys() == {"similarity"}
    assert float(found_head["similarity"]) == pytest.approx(wanted_head, rel=1e-5)
    found = loop.backward(1, batch)
    with torch.no_grad():
        student, teacher = method.student(views), method.teacher_network(views)
    wanted = four_terms(method, student, teacher, batch.labels.tolist())
    if name == "ssd-kd":
        wanted |= relations(method, student, teacher)
    assert {k: float(v) for k, v in found.items()} == {
        k: pytest.approx(v, rel=2e-5) for k, v in wanted.items()
    }


def test_losses_of_scl_ikd_equal_slow_loops():
    method, batch = factories.ready_method("scl-ikd"), factories.batch(size=6)
    labels, loop = batch.labels.tolist(), factories.Loop(method)

    found = loop.backward(0, batch)
    with torch.no_grad():
        t = lists(method.teacher_network(batch.views[0]).embedding.relu())
    assert float(found["contrast"]) == pytest.approx(oracles.npairs(t, labels, 0.05), rel=1e-5)

    found = loop.backward(1, batch)
    with torch.no_grad():
        t = lists(method.teacher_network(batch.views[0]).embedding.relu())
        s = lists(method.student(batch.views[0]).embedding.relu())
    soft_s, soft_t = ([oracles.softmax([v / 10 for v in row]) for row in x] for x in (s, t))
    cosines = [oracles.dot(a, b) / oracles.norm(a) / oracles.norm(b) for a, b in zip(soft_s, soft_t)]
    wanted = {
        "contrast": 0.05 * oracles.npairs(s, labels, 0.05),
        "kd": 0.05 * oracles.mean(oracles.divergence(b, a) for a, b in zip(soft_s, soft_t)),
        "cosine": 0.9 * (1 - oracles.mean(cosines)),
    }
    found = {k: float(v) for k, v in found.items()}
    assert found == {k: pytest.approx(v, rel=1e-4, abs=1e-7) for k, v in wanted.items()}

    method.hp.dropout = method.classifier[2].p = 0.0
    found = loop.backward(2, batch)
    with torch.no_grad():
        pooled = method.student(batch.views[0]).pooled
        logits = lists(method.classifier(pooled))
    weights = lists(method.info.class_weights)
    wanted = sum(oracles.weighted_cross_entropy(logits, labels, weights)) / sum(weights[y] for y in labels)
    assert float(found["ce"]) == pytest.approx(wanted, rel=1e-5)


def test_maps_of_another_size_are_averaged_to_the_smaller():
    method = factories.ready_method("ssd-kd")
    method.eval()
    width = method.info.student_width
    small, large = torch.randn(2, width, 2, 3), torch.randn(2, width, 4, 6)
    down = large.view(2, width, 2, 2, 3, 2).mean((3, 5))
    assert method.compute_gram(small, large).item() == pytest.approx(
        method.compute_gram(small, down).item(), rel=1e-6
    )
    assert method.compute_gram(large, small).item() == pytest.approx(
        method.compute_gram(down, small).item(), rel=1e-6
    )


@pytest.mark.parametrize("name", STAGED)
def test_every_hyper_parameter_changes_a_loss(name):
    def found(*hparams):
        method = small_method(name, **dict(hparams))
        loop = factories.Loop(method)
        torch.manual_seed(5)  # of the dropout
        return [loop.backward(i, factories.batch()) for i in range(len(method.stages()))]

    usual = found()
    for key, value in plugins.read_attributes("methods", name)["hparams"].items():
        assert found((key, value / 2 if isinstance(value, float) else value // 2)) != usual, key


# --- what is stored, and going on -----------------------------------------------------------------------------


def test_what_is_deployed_predicts():
    method, fresh = factories.ready_method("scl-ikd"), factories.ready_method("scl-ikd", seed=3)
    stored = method.get_inference_state_dict()
    fresh.student.load_state_dict({k: v for k, v in stored.items() if not k.startswith("head.")})
    fresh.classifier.load_state_dict({k[5:]: v for k, v in stored.items() if k.startswith("head.")})
    images = next(factories.resident().iterate_images(8))
    with torch.inference_mode():
        assert torch.equal(fresh.eval().predict(images).logits, method.eval().predict(images).logits)
        assert not torch.equal(method.predict(images).logits, method.student(images).logits)
    assert (
        factories.ready_method("sskd").get_inference_state_dict().keys()
        == factories.ready_method("scratch").get_inference_state_dict().keys()
    )


def test_a_run_stores_all_of_its_stages(tmp_path, monkeypatch):
    """With another teacher, through everything a run goes through."""
    from udcd_bench.data.dataset import Dataset
    from udcd_bench.engines import execute
    from udcd_bench.engines.events import EpochDone
    from udcd_bench.runs.spec import RunSpec
    from udcd_bench.runs.store import Store

    n = len(factories.dataset().labels)
    images = np.random.default_rng(0).integers(0, 256, (n, 32, 32, 3), dtype=np.uint8)
    ids = tuple(map(str, range(n)))
    dataset = Dataset(
        "tiny", "Tiny", images, factories.dataset().labels, ids, np.arange(n), tuple("abcd"), "0" * 16
    )
    for name in ("prepare_data", "load_data"):
        monkeypatch.setattr(execute, name, lambda *_: dataset)
    protocol = (("batch_size", 8), ("epochs", 2), ("image_size", 32))
    spec = RunSpec("scl-ikd", "tiny", "demo", "densenet-tiny", teacher_backbone=TEACHER, protocol=protocol)
    store = Store(tmp_path)
    context = execute.RunContext(store, tmp_path, "cpu")
    store.create()
    [job] = planner.plan([spec], store, lambda spec: execute.collect_run_inputs(spec, context))
    assert store.acquire(job.key)
    told = []
    execute.execute_run(job, context, told.append)
    rows = [event.row for event in told if isinstance(event, EpochDone)]
    assert [(row["stage"], row["epoch"]) for row in rows] == [
        ("teacher", 0),
        ("teacher", 1),
        ("student", 0),
        ("student", 1),
        ("classifier", 0),
    ]
    assert store.read_record(job.key)["epochs"] == job.epochs == 5
    stored = store.read_weights(job.key)
    assert stored["head.0.weight"].shape == (256, stored["neck.weight"].shape[1])
    history = (store.runs / job.key / "history.csv").read_text().splitlines()
    tested = [line.rsplit(",", 1)[1] != "" for line in history[1:]]
    assert tested == [False, False, False, False, True]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["scratch", "mtg", "kd", "udcd", *STAGED])
def test_stopped_after_every_epoch_gives_the_same_scores(name):
    """In the middle of stages and between them, to the last bit."""

    def build():
        method = small_method(name)
        if name in STAGED:
            method.stage_shares = dict.fromkeys(method.stage_shares, 0.5)  # two epochs each
        return method

    whole = factories.train(build())
    parts = factories.train_interrupted(build, len(whole.history))
    assert whole.epochs == parts.epochs
    assert np.array_equal(whole.scores, parts.scores)
    assert np.array_equal(whole.embeddings, parts.embeddings)
    strip = [{k: v for k, v in r.items() if k not in ("seconds", "images_per_s")} for r in whole.history]
    assert strip == [
        {k: v for k, v in r.items() if k not in ("seconds", "images_per_s")} for r in parts.history
    ]


# --- other people's trainers ----------------------------------------------------------------------------------

# `sskd.npz` was recorded while SSKD's training script ran entire, `ssd-kd.npz` while the bodies of both of SSD-KD's
# loops did, with its relation losses and its adapter: in float64 on the CPU, on `factories.SmallNet`. Theirs are turns,
# heads, choice of rows, losses, modes, and steps (SGD); ours the networks and images. Kept: where they started, the
# images of each step, the weighted terms before it, sums and norms of the trained parameters after it.
# Two things of theirs were changed: the sort that chooses rows was made stable, for an unstable one breaks its many
# ties anew with every version and device (their default moved the similarity term by up to 3 % here); and the
# constructor of SSD-KD's relation loss, which raises TypeError as released, was passed by.
RECORDED = {
    "sskd": {"head": {"lr": 0.5, "weight_decay": 5e-4}, "train": {"lr": 0.05, "weight_decay": 5e-4}},
    "ssd-kd": {"head": {"lr": 0.5, "weight_decay": 1e-3}, "train": {"lr": 1e-3, "weight_decay": 1e-3}},
}


def recorded(name):
    """The recording, and our method where theirs started."""
    with np.load(Path(__file__).parents[1] / "trajectories" / f"{name}.npz") as archive:
        z = {k: torch.from_numpy(archive[k]) for k in archive.files}
    n_classes = int(z["labels"].max()) + 1
    # SSKD weighs all classes alike
    weights = len(z["labels"]) / torch.bincount(z["labels"]) if name == "ssd-kd" else torch.ones(n_classes)
    student, teacher = (factories.SmallNet(n_classes, width, embedding=10) for width in (8, 12))
    info = DatasetInfo(
        n_train=len(z["labels"]),
        classes=n_classes,
        labels=z["labels"],
        class_weights=weights.double(),
        student_width=student.width,
        teacher_width=teacher.width,
        embedding_width=10,
    )
    method = plugins.load_class("methods", name)(info, student, teacher)
    parts = {"student": student, "teacher": teacher} | dict(method.named_children())
    parts.pop("teacher_network")
    for part, module in parts.items():
        own = {k.removeprefix(f"start.{part}."): v for k, v in z.items() if k.startswith(f"start.{part}.")}
        module.load_state_dict(own)
    return z, method


@pytest.mark.parametrize("name", RECORDED)
def test_steps_are_those_of_the_original(name):
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        z, method = recorded(name)
        loop = factories.Loop(method)
        terms, after = follow(z, loop, RECORDED[name])
    finally:
        torch.set_default_dtype(before)
    steps = len(z["head_loss"])
    np.testing.assert_allclose([t["similarity"] for t in terms[:steps]], z["head_loss"], rtol=1e-10)
    np.testing.assert_allclose(np.array(after[:steps]), z["head_after"], rtol=1e-10, atol=1e-10)
    names = ["ce", "kd", "turned", "similarity"]
    found = [
        [t[k] for k in names] + ([t["distance"] + t["angle"] + t["gram"]] if "gram" in t else [])
        for t in terms[steps:]
    ]
    np.testing.assert_allclose(np.array(found), z["terms"], rtol=1e-8)
    np.testing.assert_allclose(np.array(after[steps:]), z["after"], rtol=1e-8, atol=1e-10)
    assert len(found) >= 5


def follow(z, loop, settings):
    """Terms before each recorded step and parameters' sums and norms after it, ours."""
    method, terms, after = loop.method, [], []
    images = z["images"].double().permute(0, 3, 1, 2) / 128 - 1
    steps = {"head": len(z["head_loss"]), "train": len(z["terms"])}
    order = iter(z["order"].long())
    for number, stage in enumerate(method.stages()):
        parameters = [p for module in stage.trained_modules for p in module.parameters()]
        optimiser = torch.optim.SGD(parameters, momentum=0.9, **settings[stage.name])
        for index in itertools.islice(order, steps[stage.name]):
            given = Batch((images[index],), z["labels"][index], index)
            terms.append({k: float(v) for k, v in loop.backward(number, given).items()})
            optimiser.step()
            seen = [
                *stage.trained_modules[:2],
                *([method.adapter[1]] if len(stage.trained_modules) > 2 else []),
            ]
            after.append(
                [[float(p.detach().sum()), float(p.detach().norm())] for m in seen for p in m.parameters()]
            )
    return terms, after
