"""Keys of runs as they are planned: what is written otherwise has the same key, what is another thing another one."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from support import layouts, records
from udcd_bench import plugins
from udcd_bench.engines import execute
from udcd_bench.engines.naming import NameResolver
from udcd_bench.errors import RunError, UserError
from udcd_bench.grid.cells import TableRequest
from udcd_bench.runs import planner, profiles
from udcd_bench.runs.results import load_results
from udcd_bench.runs.spec import REVISION, RunSpec
from udcd_bench.runs.store import Store

BACKBONE = "test_resnet"
SETTINGS = (("batch_size", 8), ("epochs", 1), ("image_size", 32))
METHOD = '''"""Mine."""

from _common import SCALE

from udcd_bench import losses, method


class Method(method.BaseMethod):
    title = "Mine"
    citation = "Me, 2024"
    hparams = {}

    def compute_losses(self, batch, progress):
        logits = self.student(batch.views[0]).logits
        return {"ce": SCALE * self.cross_entropy(logits, batch.labels)}
'''


def draw(folder, n=8, classes=("benign", "malignant")):
    for label, name in enumerate(classes):
        (folder / name).mkdir(parents=True)
        for i in range(n):
            pixels = np.random.default_rng([label, i]).integers(0, 255, (32, 32, 3), np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{i:02}.png")
    return folder


@pytest.fixture(autouse=True)
def lab(tmp_path, monkeypatch):
    """A laboratory: the current folder, with images in ``skin`` and a link to them."""
    folder = tmp_path / "lab"
    draw(folder / "skin")
    (folder / "link").symlink_to("skin")
    monkeypatch.chdir(folder)
    return folder


def plan(dataset="folder:skin", *, data=Path("data"), **changes):
    """The jobs of a run on these images, and where they were planned."""
    spec = RunSpec("scratch", dataset, "demo", "resnet-tiny", protocol=SETTINGS)
    resolver = NameResolver(data)
    spec = resolver.resolve_spec(replace(spec, **changes))
    context = execute.RunContext(Store(Path("results")), data, "cpu", locations=resolver.locations)
    return planner.plan(
        [spec], context.store, lambda spec: execute.collect_run_inputs(spec, context)
    ), context


def key(*words, **changes):
    return plan(*words, **changes)[0][-1].key


# --- the same, written otherwise ------------------------------------------------------------------------------


def test_a_path_is_written_in_many_ways(lab, tmp_path):
    copied = shutil.copytree("skin", tmp_path / "elsewhere" / "moles")
    for path in sorted(copied.rglob("*.png"), reverse=True):
        os.utime(path, (10**9, 10**9))
    rows = sorted(path.relative_to("skin").as_posix() for path in Path("skin").rglob("*.png"))
    table = "".join(f"{name},{name.partition('/')[0]}\n" for name in reversed(rows))
    Path("skin/list.csv").write_text(f"path,label\n{table}")
    ways = ["skin", "./skin", "skin/", "../lab/skin", str(lab / "skin"), "link", str(copied), "skin/list.csv"]
    jobs = {way: plan(f"folder:{way}")[0][0] for way in ways}
    assert len({job.key for job in jobs.values()}) == 1, jobs
    assert (
        len({job.spec for job in jobs.values()}) == 1 and len({hash(job.spec) for job in jobs.values()}) == 1
    )
    digest = jobs["skin"].spec.dataset.partition("#")[2]
    assert jobs[str(copied)].spec.dataset == f"folder:moles#{digest}"
    assert jobs["skin/"].spec.dataset == jobs["../lab/skin"].spec.dataset == f"folder:skin#{digest}"
    assert len(list(Path("data").glob("folder-*"))) == 3, (
        "one prepared set for each place, however it is written"
    )


def test_two_folders_of_the_same_images_are_one_column(tmp_path):
    shutil.copytree("skin", tmp_path / "moles")
    request = TableRequest(datasets=("folder:skin", f"folder:{tmp_path / 'moles'}", "digits", "folder:link"))
    datasets = NameResolver(Path("data")).resolve_request(request).datasets
    assert [name.partition("#")[0] for name in datasets] == ["folder:skin", "digits"]


def test_another_place_for_what_is_prepared(tmp_path):
    assert key(data=tmp_path / "other data") == key()


def test_the_seeds_come_from_the_images(tmp_path):
    shutil.copytree("skin", tmp_path / "moles")
    few = {"fraction": 0.5, "rho": 1.5}
    (one,), _ = plan(**few)
    (other,), _ = plan(f"folder:{tmp_path / 'moles'}", **few)
    assert one.inputs == other.inputs and one.inputs.data_identity.startswith("folder#")
    assert one.spec.derive_seed_for("order") == other.spec.derive_seed_for("order")


def test_a_size_changes_the_pixels_and_not_what_they_are():
    (one,), _ = plan()
    (other,), _ = plan(protocol=(*SETTINGS[:2], ("image_size", 48)))
    assert one.spec.dataset == other.spec.dataset and one.inputs.data != other.inputs.data


def test_options_in_any_order_and_with_defaults():
    assert key(protocol=(*SETTINGS[::-1], ("weights", "none"), ("flip", "0.5"))) == key()
    kd = key(method="kd")
    assert key(method="kd", hparams=(("temperature", "4"),), teacher_backbone="resnet-tiny") == kd
    assert key(teacher_backbone="densenet-tiny") == key(), "scratch has no teacher"


def test_equal_numbers_are_equal_under_any_profile():
    numbers = asdict(replace(profiles.PROFILES["demo"].protocol.with_epochs(1), batch_size=8, image_size=32))
    (demo,), _ = plan()
    (quick,), _ = plan(profile="quick", protocol=tuple(numbers.items()))
    assert quick.key == demo.key and quick.spec != demo.spec
    store = Store(Path("results"))
    both = planner.plan([demo.spec, quick.spec], store, lambda spec: demo.inputs)
    assert len(both) == 1 and {demo.spec, quick.spec} == set(both[0].specs)


def test_a_run_of_a_profiles_plain_numbers_is_the_profiles():
    numbers = tuple(asdict(profiles.PROFILES["demo"].protocol).items())
    spec = RunSpec("scratch", "folder:skin#0123456789ab", "quick", "resnet-tiny", protocol=numbers)
    plain = replace(spec, profile="demo", protocol=())
    records.store_run(Store(Path("results")), records.record(spec))
    results = load_results(Store(Path("results")))
    assert results.select_records([plain])[plain]["spec"]["profile"] == "quick"
    assert planner.list_equal_specs(plain) == [plain]


@pytest.fixture
def weights(lab):
    """Three files of one backbone's weights: two with the same values, one of them in half precision."""
    import timm
    import torch

    torch.manual_seed(0)
    state = {
        k: v.half().float() if v.is_floating_point() else v
        for k, v in timm.create_model(BACKBONE, num_classes=0).state_dict().items()
    }
    half = {k: v.half() if v.is_floating_point() else v for k, v in state.items()}
    other = {k: v + 1 if k.endswith("conv1.weight") else v for k, v in state.items()}
    (lab / "more").mkdir()
    for path, content in (("a.pth", state), ("more/b.pth", half), ("c.pth", other)):
        torch.save(content, path)


def weighed(file, method="scratch", **changes):
    return plan(backbone=BACKBONE, method=method, protocol=(*SETTINGS, ("weights", file)), **changes)[0]


@pytest.mark.usefixtures("weights")
def test_weights_are_what_they_hold(lab):
    (one,) = weighed("a.pth")
    (other,) = weighed("more/b.pth")
    assert one.key == other.key and one.spec == other.spec
    assert (
        dict(other.spec.protocol)["weights"].startswith("b.pth#") and "more" not in other.spec.format_label()
    )
    before = one.key
    shutil.copy("c.pth", "a.pth")
    (replaced,) = weighed("a.pth")
    assert replaced.key != before and replaced.spec != one.spec, "another file under the same name"
    assert weighed("none")[0].key not in (before, replaced.key)


@pytest.mark.usefixtures("weights")
def test_a_teacher_has_the_weights_of_its_student():
    teacher, student = weighed("a.pth", "kd")
    assert teacher.key == weighed("a.pth")[0].key == student.inputs.teacher_key
    shutil.copy("c.pth", "a.pth")
    assert {job.key for job in weighed("a.pth", "kd")}.isdisjoint({teacher.key, student.key})


@pytest.mark.slow
@pytest.mark.usefixtures("weights")
@pytest.mark.parametrize("method", ["kd", "scl-ikd"])
def test_a_teacher_of_another_backbone_whose_weights_they_cannot_be_is_named(method):
    with pytest.raises(
        UserError, match=rf"The teacher of {method} is .*resnet-tiny.*--teacher-backbone {BACKBONE}, or"
    ):
        weighed("a.pth", method, teacher_backbone="resnet-tiny")
    assert weighed("a.pth", "scratch", teacher_backbone="resnet-tiny"), "it has no teacher"


@pytest.mark.usefixtures("weights")
def test_what_a_file_of_weights_begins_with_is_said_once(caplog):
    import torch

    named = {f"model.{key}": value for key, value in torch.load("a.pth", weights_only=True).items()}
    torch.save(named, "named.pth")
    (job,), context = plan(backbone=BACKBONE, protocol=(*SETTINGS, ("weights", "named.pth")))
    assert caplog.messages == ["named.pth: read below 'model.'."]
    execute.collect_run_inputs(job.spec, context)
    assert len(caplog.messages) == 1


def test_no_weights_in_any_case_and_a_name_that_is_missing():
    assert plan(protocol=(*SETTINGS, ("weights", "None")))[0][0].key == key()
    with pytest.raises(
        UserError, match=r"^weights= names nothing; give none, imagenet or the path of a file\.$"
    ):
        plan(protocol=(*SETTINGS, ("weights", "")))


def test_drawn_weights_need_no_tensor_library():
    code = (
        "import sys\n"
        "from udcd_bench.cli import cli\n"
        "words = ['train', 'scratch', '--dataset=folder:skin', '--set=image_size=32', '--dry-run']\n"
        "cli(words, standalone_mode=False)\n"
        "assert not {'torch', 'timm'} & sys.modules.keys()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0 and "scratch skin (" in done.stdout, done.stderr


def test_a_command_names_the_place():
    (job,), context = plan("folder:./skin")
    assert "--dataset folder:./skin " in planner.format_command(job.spec, context.places)
    assert "--dataset 'folder:skin#" in planner.format_command(
        job.spec, planner.CommandPlaces(Path("data"), Path("results"))
    )


def test_a_name_by_content_leads_to_the_prepared_images():
    (job,), _ = plan()
    digest = job.spec.dataset.partition("#")[2]
    for typed in (job.spec.dataset, f"folder:moles#{digest}"):
        (again,), context = plan(typed)
        assert again.key == job.key and context.locations[job.spec.data_identity] == "skin"
        assert again.spec.dataset == typed
    change_pixel()
    with pytest.raises(UserError, match=r"folder:skin#.* names images that skin no longer holds"):
        plan(job.spec.dataset)


# --- another thing ---------------------------------------------------------------------------------------------


def change_pixel():
    pixels = np.asarray(Image.open("skin/benign/00.png")).copy()
    pixels[0, 0] ^= 1
    Image.fromarray(pixels).save("skin/benign/00.png")


def save_again():
    """The same pixels in another file: the images are the same, and what the set holds is not."""
    Image.open("skin/benign/00.png").save("skin/benign/00.png", compress_level=1)


CHANGES = {
    "a pixel": change_pixel,
    "a label": lambda: Path("skin/benign/00.png").rename("skin/malignant/99.png"),
    "an image's name": lambda: Path("skin/benign/00.png").rename("skin/benign/99.png"),
    "an image less": lambda: Path("skin/benign/00.png").unlink(),
    "a class's name": lambda: Path("skin/benign").rename("skin/harmless"),
    "an image's file": save_again,
}


@pytest.mark.parametrize("change", CHANGES)
def test_other_images_are_another_run(change):
    before = key()
    CHANGES[change]()
    assert key() != before


def test_other_pixels_under_the_same_name_size_and_time_are_another_run():
    path, keys, sizes = Path("skin/benign/00.png"), set(), set()
    for shade in (10, 200):
        Image.fromarray(np.full((32, 32, 3), shade, np.uint8)).save(
            path, "BMP"
        )  # of one size, whatever the pixels
        os.utime(path, (10**9, 10**9))
        sizes.add(path.stat().st_size)
        keys.add(key())
    assert len(sizes) == 1 and len(keys) == 2


@pytest.fixture
def mine(lab, own_suites):
    """A method with a helper file."""
    (lab / "mine").mkdir()
    (lab / "mine" / "scaled.py").write_text(METHOD)
    (lab / "mine" / "_common.py").write_text("SCALE = 1.0\n")
    plugins.add_suite(Path("mine"))
    return lab / "mine"


def test_a_changed_helper_is_another_run(mine):
    before = key(method="scaled")
    assert before == key(method="scaled")
    (mine / "_common.py").write_text("SCALE = 0.0001\n")
    assert key(method="scaled") != before


def test_what_a_loss_reads_stops_the_run_at_its_first_step(mine):
    (mine / "scale.txt").write_text("1.0")
    text = METHOD.replace(
        "SCALE *", "float(__import__('pathlib').Path(__file__).with_name('scale.txt').read_text()) *"
    )
    (mine / "scaled.py").write_text(text)
    (job,), context = plan(method="scaled", protocol=(("epochs", 3), *SETTINGS[::2]))
    context.store.create()
    events = []
    with pytest.raises(UserError, match=r"scaled.py reads .*scale.txt, which its runs' keys do not cover"):
        execute.execute_run(job, context, events.append)
    assert events == [] and context.store.get_state(job.key) == "absent"


# --- changed while the run waited ------------------------------------------------------------------------------


def test_what_changes_while_a_run_waits_is_named(mine):
    (job,), context = plan(method="scaled")
    context.store.create()
    (mine / "_common.py").write_text("SCALE = 0.0001\n")
    with pytest.raises(RunError, match=r"^the method's source changed while the run waited; start again\.$"):
        execute.execute_run(job, context, print)
    assert context.store.get_state(job.key) == "failed" and context.store.list_keys() == []
    (mine / "_common.py").write_text("SCALE = 1.0\n")
    change_pixel()
    with pytest.raises(RunError, match="the images, the identity of the images changed while the run waited"):
        execute.execute_run(job, context, print)


@pytest.mark.usefixtures("weights")
def test_weights_that_change_while_a_run_waits_are_named():
    spec = {"backbone": BACKBONE, "protocol": (*SETTINGS, ("weights", "a.pth"))}
    (job,), context = plan(**spec)
    context.store.create()
    shutil.copy("c.pth", "a.pth")
    with pytest.raises(RunError, match=r"^the pretrained weights changed while the run waited; start again"):
        execute.execute_run(job, context, print)


def test_a_record_says_what_it_was_made_from(mine):
    (job,), context = plan(method="scaled")
    context.store.create()
    execute.execute_run(job, context, lambda event: None)
    record = context.store.read_record(job.key)
    assert record["made_of"] == job.inputs.to_dict() and record["revision"] == REVISION
    assert record["made_of"]["sources"].keys() == {"scaled.py", "_common.py"}
    assert record["dataset_title"] == f"skin ({job.spec.dataset.partition('#')[2][:4]})"
    assert str(mine.parent) not in str({k: v for k, v in record.items() if k != "environment"})


def test_a_file_of_weights_that_is_not_there_is_named():
    with pytest.raises(UserError, match=r"weights=no.pth: there is no such file"):
        weighed("no.pth")
    with pytest.raises(UserError, match="names a file by what it holds; give the file's path"):
        weighed("no.pth#0123456789ab")


def test_a_plan_knows_its_specs_by_any_name():
    spec = RunSpec("kd", "folder:a#0123456789ab", "demo", "resnet-tiny")
    jobs = planner.plan([spec], Store(Path("results")), records.make_inputs)
    assert replace(spec, dataset="folder:b#0123456789ab") in jobs[-1].specs


def test_names_in_a_key_are_utf8_whatever_the_locale(tmp_path):
    """A method's file and a folder of images, in a process that takes the names of files for ASCII."""
    layouts.class_folders(tmp_path / "ü", ("a", "b"))
    layouts.write(
        tmp_path / "mine" / "lß.py", "class Method:\n    title = 'Mine'\n    citation = 'Me, 2024'\n"
    )
    code = (
        "import os, sys\nfrom pathlib import Path\nfrom udcd_bench import plugins\n"
        "from udcd_bench.cli.option_values import parse_methods\nfrom udcd_bench.data import own_images\n"
        "from udcd_bench.engines.naming import NameResolver\nfrom udcd_bench.runs.spec import RunSpec\n"
        "assert (sys.getfilesystemencoding() == 'utf-8') == (sys.argv[3] == 'utf-8')\n"
        "plugins.add_suite(Path('mine'))\n(name,) = parse_methods(None, None, (sys.argv[2],))\n"
        "spec = RunSpec(name, 'folder:' + sys.argv[1], 'demo', 'densenet-tiny')\n"
        "resolver = NameResolver(Path('data'))\nspec = resolver.resolve_spec(spec)\n"
        "by_name = resolver.resolve_spec(RunSpec(name, spec.dataset, 'demo', 'densenet-tiny')).dataset\n"
        "print(ascii((spec, by_name, plugins.hash_sources('methods', spec.method),\n"
        "    [s.name for s in own_images.list_own_images(Path('data'))])))\n"
    )
    printed = []
    for encoding, settings in (
        ("ascii", {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "LC_ALL": "C"}),
        ("utf-8", {"PYTHONUTF8": "1"}),
    ):
        words = [sys.executable, "-c", code, "ü", "lß", encoding]
        done = subprocess.run(
            words, cwd=tmp_path, capture_output=True, text=True, env=os.environ | settings, check=False
        )
        assert not done.returncode, done.stderr
        printed.append(done.stdout)
    assert printed[0] == printed[1] and ascii("folder:ü#").strip("'") in printed[0], printed
