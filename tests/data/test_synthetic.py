"""The drawn stand-ins: reproducible, in proportion, overlapping, and the same picture at every size."""

import subprocess
import sys
from types import ModuleType

import numpy as np
import pytest

from udcd_bench.data.synthetic import fundus, lesions
from udcd_bench.data.synthetic.series import Series, draw_all
from udcd_bench.errors import UserError

both = pytest.mark.parametrize("source", [lesions, fundus], ids=["lesions", "fundus"])


@both
@pytest.mark.parametrize("size", [32, 48, 224])
def test_an_image_has_the_size_asked_for_and_is_a_photograph(source: ModuleType, size: int) -> None:
    image = source.draw_image(5, 3, size, 0, 5)
    assert image.shape == (size, size, 3) and image.dtype == np.uint8
    assert image.std() > 10


@both
@pytest.mark.parametrize("size", [16, 31, 225, 300])
def test_other_sizes_are_refused_in_one_sentence(source: ModuleType, size: int) -> None:
    with pytest.raises(UserError, match="32 to 224"):
        source.draw_image(0, 0, size, 0, 0)
    with pytest.raises(UserError, match=str(size)):
        draw_all(Series(source.draw_image, np.zeros(3, np.int64), np.arange(3), size, 0), jobs=4)


@both
def test_an_image_depends_on_its_arguments_alone(source: ModuleType) -> None:
    np.random.seed(1)
    first = source.draw_image(7, 1, 48, 3, 7)
    np.random.seed(2)
    source.draw_image(8, 2, 64, 3, 8)
    assert np.array_equal(first, source.draw_image(7, 1, 48, 3, 7))
    assert not np.array_equal(first, source.draw_image(8, 1, 48, 3, 8))
    assert not np.array_equal(first, source.draw_image(7, 1, 48, 4, 7))


@pytest.mark.filterwarnings("error")
def test_the_number_of_processes_changes_no_pixel() -> None:
    labels = lesions.make_labels(40, 0)
    groups = lesions.make_groups(40, labels, 0)
    seen: list[int] = []
    series = Series(lesions.draw_image, labels, groups, 32, 9)
    alone = draw_all(series, jobs=1)
    out = np.empty_like(alone)
    several = draw_all(series, jobs=2, progress=seen.append, out=out)
    assert several is out and sum(seen) == 40
    assert np.array_equal(alone, several)
    assert np.array_equal(alone[39], lesions.draw_image(39, int(labels[39]), 32, 9, int(groups[39])))


def test_no_images_are_no_error() -> None:
    none = np.zeros(0, np.int64)
    assert draw_all(Series(fundus.draw_image, none, none, 32, 0), jobs=2).shape == (0, 32, 32, 3)


@both
def test_published_proportions_are_exact_at_the_published_number(source: ModuleType) -> None:
    n = sum(source.PUBLISHED_COUNTS)
    assert tuple(np.bincount(source.make_labels(n, 0))) == source.PUBLISHED_COUNTS
    assert len(source.CLASSES) == len(source.PUBLISHED_COUNTS)
    assert all(name.startswith("synthetic") for name in source.CLASSES)


@both
@pytest.mark.parametrize("n", [70, 71, 333, 1000])
def test_every_class_has_ten_images_where_there_is_room(source: ModuleType, n: int) -> None:
    counts = np.bincount(source.make_labels(n, 1), minlength=len(source.CLASSES))
    assert counts.sum() == n and counts.min() >= 10
    share = n * np.array(source.PUBLISHED_COUNTS) / sum(source.PUBLISHED_COUNTS)
    assert np.all(np.diff(counts[np.argsort(share)]) >= 0)


@both
@pytest.mark.parametrize("n", [0, 1, 9])
def test_small_sets_keep_their_number(source: ModuleType, n: int) -> None:
    assert len(source.make_labels(n, 0)) == n


@both
def test_labels_are_shuffled_by_their_seed(source: ModuleType) -> None:
    assert np.array_equal(source.make_labels(500, 3), source.make_labels(500, 3))
    assert not np.array_equal(source.make_labels(500, 3), source.make_labels(500, 4))
    assert np.any(np.diff(source.make_labels(500, 3)) < 0)


def test_a_quarter_of_the_lesion_images_repeat_an_earlier_lesion_of_the_class() -> None:
    labels = lesions.make_labels(2000, 0)
    groups = lesions.make_groups(2000, labels, 0)
    assert groups.dtype == np.int64
    assert 0.2 < np.mean(groups != np.arange(2000)) < 0.3
    assert np.all(groups <= np.arange(2000)) and np.all(groups[groups] == groups)
    assert np.array_equal(labels[groups], labels)


def test_photographs_of_one_lesion_are_alike_but_not_the_same() -> None:
    assert lesions.sample_features(4, 2, 0) == lesions.sample_features(4, 2, 0)

    def palette(index: int, group: int) -> np.ndarray:
        image = lesions.draw_image(index, 4, 64, 0, group)[16:48, 16:48]
        return image.reshape(-1, 3).mean(0)

    same = [np.abs(palette(g, g) - palette(g + 500, g)).mean() for g in range(12)]
    other = [np.abs(palette(g, g) - palette(g + 500, g + 500)).mean() for g in range(12)]
    assert 0 < np.mean(same) < 0.7 * np.mean(other)


def test_every_eye_is_an_eye_of_its_own() -> None:
    assert np.array_equal(fundus.make_groups(7, fundus.make_labels(7, 0), 0), np.arange(7))


def test_both_left_and_right_eyes_are_drawn() -> None:
    eyes = np.stack([fundus.draw_image(i, 0, 48, 0, i) for i in range(16)]).astype(float).sum(-1)
    right = eyes[:, 18:30, 24:].max((1, 2)) > eyes[:, 18:30, :24].max((1, 2))  # the disc outshines all
    assert 2 <= right.sum() <= 14


@both
def test_one_index_is_one_picture_at_every_size(source: ModuleType) -> None:
    for i in range(6):
        large = source.draw_image(i, i % 5, 224, 0, i).astype(float).reshape(32, 7, 32, 7, 3).mean((1, 3))
        small = source.draw_image(i, i % 5, 32, 0, i).astype(float)
        assert np.corrcoef(large.ravel(), small.ravel())[0, 1] > 0.95


def test_classes_differ_on_average_and_overlap() -> None:
    def darkness(label: int) -> np.ndarray:
        images = [lesions.draw_image(i, label, 32, 0, i) for i in range(40)]
        return np.array([im[:4].mean() - im[12:20, 12:20].mean() for im in images])

    nevus, melanoma = darkness(5), darkness(4)
    assert melanoma.mean() > nevus.mean() + 5
    assert nevus.max() > np.median(melanoma) and melanoma.min() < np.median(nevus)


def test_grades_have_ever_more_lesions_and_overlap() -> None:
    counts = np.array(
        [[fundus.sample_burden(i, grade, 0)["microaneurysms"] for i in range(400)] for grade in range(4)]
    )
    assert np.all(np.diff(counts.mean(1)) > 0)
    assert np.all(counts[:-1].max(1) > counts[1:].min(1))


def test_drawing_does_without_torch() -> None:
    code = (
        "import sys; from udcd_bench.data.synthetic import fundus, lesions; sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
