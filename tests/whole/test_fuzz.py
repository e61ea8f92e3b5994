"""Whatever a file holds, its reader gives a correct result or a clear sentence: each reader against spoiled files.

About a minute by default, the same cases every time; ``UDCD_BENCH_FUZZ=long`` makes it an hour's worth of new ones.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import io
import json
import zipfile

import click
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from support import fuzz, layouts, records
from support.fuzz import attempt, campaign
from udcd_bench import plugins
from udcd_bench.cli import option_values
from udcd_bench.data import sources
from udcd_bench.data.cache import decode, prepared
from udcd_bench.data.files import scan
from udcd_bench.data.layouts import aptos, folder, ham10000, medmnist
from udcd_bench.errors import UserError
from udcd_bench.judging import claim_check, claim_file, seed_baseline, seed_check, tolerances, verdicts
from udcd_bench.paper import audit, published, rounded
from udcd_bench.report import page, runs
from udcd_bench.report.views import Selection
from udcd_bench.runs import planner, rates
from udcd_bench.runs.results import Results, load_results
from udcd_bench.runs.spec import RunSpec
from udcd_bench.runs.store import Store
from udcd_bench.stats import metrics
from udcd_bench.stats.metrics import METRICS
from udcd_bench.storage.checksums import dump_with_checksum

pytestmark = pytest.mark.slow

# the packages' names are the commands'
running = importlib.import_module("udcd_bench.cli.run")


@pytest.fixture(scope="module", autouse=True)
def told(pytestconfig):
    """Says how many inputs there were, in the long campaign; in both, that a target has read some and refused some."""
    yield
    for name, seen in fuzz.counts.items():
        assert len(seen) == 2 or sum(seen.values()) < 50, f"{name}: {dict(seen)} proves nothing"
    if fuzz.LONG:
        with pytestconfig.pluginmanager.get_plugin("capturemanager").global_and_fixture_disabled():
            for name, seen in fuzz.counts.items():
                print(f"\n{name}: {seen['read']} read, {seen['refused']} refused", end="")
            print(f"\n{sum(seen.total() for seen in fuzz.counts.values())} inputs in all")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzz")


def sound(listing):
    """What a listing promises."""
    ids = [item.id for item in listing.items]
    assert len(set(ids)) == len(ids)
    assert all(0 <= item.label < len(listing.classes) for item in listing.items)
    assert all(isinstance(part, str) for item in listing.items for part in (item.id, item.group, item.split))
    assert len({bool(item.split) for item in listing.items}) < 2
    listing.compute_checksum()
    listing.report.format_lines()
    return listing


# --- metadata -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("separator", [",", "\t"])
def test_ham10000_metadata(separator, place):
    root = layouts.ham_dataverse(place / f"ham{ord(separator)}", table={",": ".csv", "\t": ".tab"}[separator])
    table = next(root.glob("HAM10000_metadata*"))

    @campaign()
    @given(fuzz.tables((layouts.ham_metadata(separator),), separator))
    def run(data):
        table.write_bytes(data)
        attempt("HAM10000 metadata", lambda: sound(ham10000.read_index(root)))

    run()


def test_isic_ground_truth_and_groupings(place):
    root = layouts.ham_isic(place / "isic")
    tables = {path: path.read_text() for path in root.rglob("ISIC2018*.csv")}

    @campaign()
    @given(st.data())
    def run(data):
        for path, text in tables.items():
            path.write_bytes(data.draw(fuzz.tables((text,))))
        attempt("ISIC 2018 tables", lambda: sound(ham10000.read_index(root)))

    run()


def test_aptos_tables(place):
    root = layouts.aptos_competition(place / "aptos")
    text = (root / "train.csv").read_text()

    @campaign()
    @given(fuzz.tables((text,)), st.sampled_from(("train.csv", "trainLabels19.csv")))
    def run(data, name):
        for old in root.glob("train*.csv"):
            old.unlink()
        (root / name).write_bytes(data)
        attempt("APTOS 2019 tables", lambda: sound(aptos.read_index(root)))

    run()


def test_a_csv_of_ones_own(place):
    root = layouts.class_folders(place / "own", ("a b", "é"))
    names = sorted(path.relative_to(root).as_posix() for path in root.rglob("*.png"))
    rows = [
        f'"{name}",{"xyz"[i % 3]},p{i // 2},{("train", "val", "test")[i % 3]}' for i, name in enumerate(names)
    ]
    valid = ["\n".join(["path,label,group,split", *rows])]
    valid += ["\n".join(["path,label", *(row.rsplit(",", 2)[0] for row in rows)])]

    @campaign()
    @given(fuzz.tables(valid))
    def run(data):
        (root / "my table.csv").write_bytes(data)
        attempt("CSV of one's own", lambda: sound(folder.read_index(root / "my table.csv")))

    run()


def test_published_tables(place):
    texts = [published.require_csv(name).read_text() for name in ("table1", "table2")]
    texts = ["\n".join(text.splitlines()[:30]) for text in texts]
    texts.append("dataset,method,metric,percent\nmine,a,acc,81.5\nmine,a,f1,70\n\nmine,b,acc,9e-3\n")
    file = place / "published.csv"

    def whole():
        figures = published.read_csv(file)
        assert figures and len(published.index_by_key(figures)) == len(figures)
        assert all(0 <= f.percent <= 100 and f.marks in published.MARKS for f in figures)
        found = audit.audit_tables({"it": figures}, {"mine": 58.0})
        json.dumps([finding.to_dict() for finding in found], allow_nan=False)
        assert all(
            cell.format_text()
            for row in rounded.group_into_rows({"it": figures})["it"]
            for cell in row.values()
        )

    @campaign(2)
    @given(fuzz.tables(texts))
    def run(data):
        file.write_bytes(data)
        attempt("published tables", whole)

    run()


def test_claims(place):
    text = claim_file.find_claims_file().read_text()
    file = place / "claims.toml"
    ours = claim_check.OwnResults(load_results(Store(place / "none")))

    def whole():
        for claim in claim_file.load_claims(file):
            for outcome in (
                claim_check.check_on_paper(claim),
                claim_check.check_on_runs(claim, "paper", ours),
            ):
                assert outcome.outcome in ("holds", "fails", "cannot tell")
                json.dumps(outcome.to_dict(), allow_nan=False)

    @campaign(0.25)
    @given(fuzz.toml_files(text))
    def run(data):
        file.write_bytes(data)
        attempt("claims.toml", whole)

    run()


def test_tolerances(place, monkeypatch):
    text = (plugins.find_root() / "tables" / "tolerances.toml").read_text()
    monkeypatch.setattr(plugins, "find_root", lambda: place)
    (place / "tables").mkdir()

    def whole():
        rules = tolerances.load_tolerances()
        for metric in (*METRICS, "other", "unheard of"):
            assert rules.get_tolerance(metric) > 0 and rules.get_noise(metric) >= 0
        assert 0 < rules.level < 1 and 0 < rules.widest < float("inf") and 1 < rules.draws < 10**7

    @campaign()
    @given(fuzz.toml_files(text))
    def run(data):
        (place / "tables" / "tolerances.toml").write_bytes(data)
        attempt("tolerances.toml", whole)

    run()


# --- results --------------------------------------------------------------------------------------------------

SPEC = RunSpec("udcd", "aptos", "paper", "densenet121", rho=9.0, hparams=(("lambda_kl", 2.0),))


@pytest.fixture(scope="module")
def finished(place):
    """A results folder with a finished run, one under way and one that failed."""
    store = Store(place / "results")
    store.create()
    arrays = records.arrays(
        np.eye(3, dtype=np.float32)[None, [0, 1, 2, 0]], [0, 1, 2, 1], ids=["a", "b", "ç", "d"]
    )
    record = records.record(SPEC)
    history = pd.DataFrame(
        {"stage": ["a", "b", "b"], "epoch": [0, 0, 1], "loss": [2.5, 1e-3, 1], "acc": [None, None, 0.5]}
    )
    store.finish_run("k1", record, history, arrays, {"neck.weight": np.ones((2, 2), np.float32)})
    store.start_run("k2", SPEC)
    store.open_checkpoint("k2").save({"a": np.arange(6.0).reshape(2, 3)}, {"epoch": 1})
    store.record_failure("k3", SPEC, "it failed", "Traceback …")
    return store


def whole_store(root):
    """All that is read of a results folder without its arrays."""
    store = Store(root)
    store.summarize()
    for key in store.list_keys():
        store.find_damage(key, thorough=True)
    rates.estimate_seconds([], store)
    with contextlib.suppress(UserError):
        load_results(store)
    with contextlib.suppress(UserError):
        claim_check.OwnResults(load_results(store))
    for rule in ("mean", "best"):
        store.build_frame(rule).to_csv()


@pytest.mark.parametrize("sealed", [True, False])
def test_records(sealed, finished):
    path = finished.runs / "k1" / "record.json"
    kept = path.read_bytes()
    record = json.loads(kept)
    if not sealed:
        record = {key: value for key, value in record.items() if key != "sha256"} | {"schema": 1}

    @campaign()
    @given(fuzz.json_files(record), st.booleans())
    def run(data, again):
        with contextlib.suppress(ValueError, RecursionError, TypeError):
            if sealed and again:  # by somebody who knows how
                data = dump_with_checksum(json.loads(data))
        path.write_bytes(data)
        attempt("record.json", whole_store, finished.root)

    try:
        run()
    finally:
        path.write_bytes(kept)


def test_reports_of_records(finished):
    path = finished.runs / "k1" / "record.json"
    kept = path.read_bytes()

    def read():
        record = finished.read_record("k1")
        page.render_page(
            finished, Selection(profile=SPEC.profile, split=RunSpec.from_dict(record["spec"]).split)
        )

    @campaign(0.1)
    @given(fuzz.json_files(json.loads(kept)))
    def run(data):
        with contextlib.suppress(ValueError, RecursionError, TypeError):
            data = dump_with_checksum(json.loads(data))
        path.write_bytes(data)
        attempt("report", read)

    try:
        run()
    finally:
        path.write_bytes(kept)


@pytest.mark.parametrize("name", ["store.json", "runs/.work/k2/spec.json", "runs/.failed/k3.json"])
def test_what_lies_beside_records(name, finished):
    path = finished.root / name
    kept = path.read_bytes()

    @campaign(0.5)
    @given(fuzz.json_files(json.loads(kept)))
    def run(data):
        path.write_bytes(data)
        attempt("store.json, spec.json, failures", whole_store, finished.root)

    try:
        run()
    finally:
        path.write_bytes(kept)


def test_checkpoints(finished):
    path = finished.work / "k2" / "checkpoint.safetensors"
    kept = path.read_bytes()

    def read():
        found = finished.open_checkpoint("k2").load()
        if found is None:
            raise UserError("It is put aside.")
        arrays, meta = found
        assert meta == {"epoch": 1} and np.array_equal(arrays["a"], np.arange(6.0).reshape(2, 3))

    @campaign()
    @given(fuzz.spoiled((kept,)))
    def run(data):
        path.write_bytes(data)
        attempt("checkpoints", read)

    try:
        run()
    finally:
        path.write_bytes(kept)


@pytest.mark.parametrize("name", ["scores.npz", "student.safetensors", "history.csv"])
def test_files_that_the_record_vouches_for(name, finished):
    path, about = finished.runs / "k1" / name, finished.runs / "k1" / "record.json"
    kept, record = path.read_bytes(), about.read_bytes()

    def scores(key):
        arrays = finished.read_scores(key)
        metrics.summarize_epochs(arrays["scores"], arrays["labels"])

    def curve(key):
        runs.build_curve([runs.ReportRun(SPEC, "", "", "", finished.read_record(key))], finished)

    read = {"scores.npz": scores, "student.safetensors": finished.read_weights, "history.csv": curve}[name]

    @campaign()
    @given(fuzz.tables((kept.decode(),)) if name == "history.csv" else fuzz.spoiled((kept,)))
    def run(data):
        path.write_bytes(data)
        says = json.loads(record)
        says["files"][name], says["bytes"][name] = hashlib.sha256(data).hexdigest(), len(data)
        about.write_bytes(dump_with_checksum(says))
        with np.errstate(all="ignore"):  # scores beyond a float's square
            attempt(f"{name} with its checksum", read, "k1")

    try:
        run()
    finally:
        path.write_bytes(kept)
        about.write_bytes(record)


@pytest.fixture(scope="module")
def prepared_set(place):
    root = layouts.class_folders(place / "mine", ("a b", "é"))
    return sources.prepare_dataset(f"folder:{root}", size=32, data=place / "data").path


def test_cache_manifests(prepared_set):
    path = prepared_set / prepared.MANIFEST
    kept = path.read_bytes()
    old = json.loads(kept)
    del old["sha256"]["manifest"]

    def read():
        dataset = prepared.load(prepared_set)
        assert dataset.images.shape[0] == len(dataset.labels) == len(dataset.ids)
        assert dataset.labels.dtype == dataset.groups.dtype == np.int64
        dataset.count_labels()

    @campaign()
    @given(fuzz.json_files(json.loads(kept)), fuzz.json_files(old), st.integers(0, 2))
    def run(data, other, which):
        if which:
            data = other
        with contextlib.suppress(Exception):
            if which == 2:  # with the sum of what it says
                says = json.loads(data)
                rows = prepared.Rows(**{key: says[key] for key in prepared.Rows.__dataclass_fields__})
                says["sha256"]["rows"] = rows.compute_sha256()
                data = json.dumps(says).encode()
        path.write_bytes(data)
        attempt("cache manifests", read)

    try:
        run()
    finally:
        path.write_bytes(kept)


def test_cache_arrays(prepared_set):
    path = prepared_set / prepared.ARRAY
    kept = path.read_bytes()
    short = kept[: prepared.HEADER_BYTES + 8]

    @campaign(0.5)
    @given(fuzz.spoiled((short,)))
    def run(data):
        path.write_bytes(data + kept[len(data) :])
        attempt("cache arrays", prepared.load, prepared_set)

    try:
        run()
    finally:
        path.write_bytes(kept)


# --- arrays, archives, images -----------------------------------------------------------------------------------

DTYPES = ("|u1", "<u1", ">u2", "<i8", "<u8", "<f8", "|b1", "|O", "<U3", "|V4", "<M8[s]", "<c16")


@st.composite
def npy(draw, array):
    """A .npy file whose header says what it likes about some bytes."""
    shape = draw(
        st.one_of(
            st.just(array.shape),
            st.lists(st.sampled_from((0, 1, 2, 3, 28, -1, 10**6, 10**12, 2**63)), max_size=5).map(tuple),
        )
    )
    descr = draw(st.one_of(st.just(array.dtype.str), st.sampled_from(DTYPES)))
    header = f"{{'descr': {descr!r}, 'fortran_order': False, 'shape': {shape!r}, }}\n".encode()
    data = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + array.tobytes()
    return draw(fuzz.spoiled((data,))) if draw(st.integers(0, 3)) == 0 else data


def test_medmnist_files(place):
    file = layouts.medmnist_file(place / "x.npz", (3, 2, 2))
    with np.load(file) as held:
        arrays = dict(held)
    kept = file.read_bytes()

    def read():
        found = medmnist.read_arrays(file, "x")
        assert len(found.images) == len(found.labels) == len(found.ids) == len(found.own_split)
        assert found.labels.min() >= 0 and found.labels.max() < len(found.classes) <= 1000
        for image in found.images:
            Image.fromarray(image).convert("RGB")

    @campaign()
    @given(st.data())
    def run(data):
        if data.draw(st.booleans()):
            file.write_bytes(data.draw(fuzz.spoiled((kept,))))
        else:
            spoilt = data.draw(st.sets(st.sampled_from(sorted(arrays)), max_size=3))
            with zipfile.ZipFile(file, "w") as archive:
                for key, array in arrays.items():
                    out = io.BytesIO()
                    np.save(out, array)
                    archive.writestr(f"{key}.npy", data.draw(npy(array)) if key in spoilt else out.getvalue())
        attempt("MedMNIST files", read)

    run()


def zipped(method, names):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for i, name in enumerate(names):
            archive.writestr(name, layouts.encode(layouts.picture(i, 12, 9), "PNG"))
    return out.getvalue()


def test_archives(place):
    names = ("a/1.png", "a/2.png", "b/é.png", "../c.png")
    valid = [zipped(method, names) for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA)]
    outer = io.BytesIO()
    with zipfile.ZipFile(outer, "w") as archive:
        archive.writestr("inner.zip", valid[1])
    root = place / "archives"
    root.mkdir()

    def read():
        found = scan.scan_files(root)
        wheres = [where for same in found.images.values() for where in same]
        with (place / "rows").open("wb"):
            pass
        done = decode.decode_rows(str(place / "rows"), 0, 32, list(enumerate(wheres)))
        decode.close_archives()
        bad = [row.problem for row in done if row.problem] + [
            entry.detail for entry in found.left_out if entry.kind == "unreadable"
        ]
        assert all(bad)
        if bad:
            raise UserError("; ".join(bad))

    @campaign()
    @given(fuzz.spoiled([*valid, outer.getvalue()]))
    def run(data):
        (root / "a.zip").write_bytes(data)
        attempt("archives", read)

    run()


def test_images():
    picture = layouts.picture(1, 20, 15)
    valid = [layouts.encode(picture, kind) for kind in ("JPEG", "PNG", "BMP", "TIFF", "WEBP", "GIF")]
    valid += [layouts.encode(picture.convert(mode), "TIFF") for mode in ("CMYK", "L", "P", "LAB", "I;16")[:4]]
    valid += [
        layouts.encode(picture, "TIFF", compression=how) for how in ("tiff_lzw", "jpeg", "tiff_deflate")
    ]
    valid += [layouts.encode(picture, "JPEG", progressive=True)]

    def read(data):
        try:
            image = decode.to_rgb(data)
        except Exception as error:  # as decode_rows does
            problem = decode._describe_error(error)
            assert problem.strip()
            raise UserError(problem) from error
        assert image.mode == "RGB"
        assert decode.resize(image, 32).shape == (32, 32, 3)

    @campaign(2)
    @given(fuzz.spoiled(valid))
    def run(data):
        attempt("images", read, data)

    run()


# --- the command line -------------------------------------------------------------------------------------------


def test_arguments():
    keys = [
        "temperature",
        "lambda_kl",
        "epochs",
        "batch_size",
        "learning_rate",
        "image_size",
        "flip",
        "threads",
    ]
    keys += ["weights", "n_images", "imbalance", "report_epochs", "x", "", " "]
    names = st.one_of(st.sampled_from(keys), fuzz.words)
    valid = st.sampled_from(
        ("epochs=3", "lambda_kl=0.5", "flip=0", "threads=2", "imbalance=truncate", "n_images=9")
    )
    spoilt = st.tuples(names, st.sampled_from(("=", "=", "=", "==", "")), fuzz.words).map("".join)

    def read(pairs, folds, rho, seeds, names):
        asked = {
            "profile": "demo",
            "split": "paper",
            "test_part": "test",
            "backbone": None,
            "teacher_backbone": "",
            "teacher": "",
        }
        try:
            asked["settings"] = option_values.parse_overrides(None, None, pairs)
            texts = () if names is None else (names,)
            asked |= {what: option_values.parse_names(None, None, texts) for what in ("methods", "datasets")}
            asked["rho"] = option_values.check_rho(None, None, rho)
            chosen = option_values.parse_folds(None, None, folds)
        except click.BadParameter as error:
            raise UserError(error.format_message()) from error
        assert chosen == tuple(sorted(set(chosen))) and set(chosen) <= set(range(5))
        ask = running.build_request(asked, chosen, seeds)
        spec = planner.normalize_spec(
            RunSpec("udcd", "aptos", "demo", "x", hparams=ask.hparams, protocol=ask.protocol)
        )
        assert json.loads(json.dumps(spec.to_dict(), allow_nan=False))
        planner.resolve_protocol(spec)
        spec.format_label()

    @campaign()
    @given(
        st.lists(st.one_of(valid, valid, spoilt), max_size=3).map(tuple),
        st.one_of(*[st.sampled_from(("all", "0", "0,1", "4"))] * 3, st.lists(fuzz.words).map(",".join)),
        st.one_of(st.none(), st.floats(1, 1000), st.floats()),
        st.just((0,)),
        st.one_of(st.none(), st.just("udcd,kd"), st.just(" a , b"), fuzz.words),
    )
    def run(pairs, folds, rho, seeds, names):
        attempt("arguments", read, pairs, folds, rho, seeds, names)

    run()


def test_an_earlier_result(place):
    table = plugins.load_class("tables", "table2")()
    ask = records.ask("paper", methods=("scratch", "udcd"), datasets=("aptos",))
    frame = table.build_frame(ask, Results(Store(place / "none"), records.records(table.list_runs(ask)), {}))
    from udcd_bench.render import sheet

    file = place / "earlier.csv"

    def read():
        found = seed_baseline.read_earlier_result(file, frame)
        judged = verdicts.judge_regressions(
            frame, found, tolerances.Tolerances({"other": 1.0}, {"other": 1.0}, 0.95, 2.0, 100)
        )
        assert all(np.isfinite(cell.theirs) for cell in judged)

    @campaign()
    @given(fuzz.tables([sheet.format_table_csv(frame)]))
    def run(data):
        file.write_bytes(data)
        attempt("--against FILE", read)

    run()


def test_rates(place):
    rows = [{"method": "udcd", "images_per_s": 12.5}, {"method": "kd", "images_per_s": 30}]
    value = {"ask": {"backbone": "densenet121", "image_size": 224, "batch": 64}, "methods": rows}
    file, job = place / "bench.json", planner.Job(SPEC, "k", "absent", 80, records.make_inputs(SPEC))

    def read():
        seconds = rates.read_rates(file).estimate_seconds(job, planner.resolve_protocol(SPEC), 8000)
        assert seconds is None or 0 < seconds < float("inf")

    @campaign()
    @given(fuzz.json_files(value))
    def run(data):
        file.write_bytes(data)
        attempt("--rates FILE", read)

    run()


def test_figures_by_seed(place):
    table = plugins.load_class("tables", "table2")()
    ask = records.ask("paper", methods=("scratch", "udcd"), datasets=("aptos",), seeds=(0, 1, 2))
    results = Results(Store(place / "none"), records.records(table.list_runs(ask)), {})
    frame = table.build_frame(ask, results)
    file, about = place / "seeds.json", seed_baseline.describe_settings(table, ask)
    file.unlink(missing_ok=True)
    made = seed_baseline.collect_by_device(table, ask, results)
    seed_baseline.save_baselines(file, about, made)
    rules = tolerances.load_tolerances()

    def read():
        if not seed_baseline.is_baseline_file(file):
            raise UserError("It is taken for an earlier result.")
        judged = seed_check.judge_by_seeds(
            frame, made, file, seed_baseline.load_baselines(file, about), rules
        )
        assert all(np.isfinite(cell.theirs) for cell in judged)

    @campaign()
    @given(fuzz.json_files(json.loads(file.read_bytes())))
    def run(data):
        file.write_bytes(data)
        attempt("figures by seed", read)

    run()
