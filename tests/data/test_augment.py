"""Augmentation and the resident images: the right draws, one an image, from their own generator."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest
import torch
from torch.testing import assert_close
from torchvision.transforms import InterpolationMode, v2
from torchvision.transforms.v2 import functional as oracle

from support import factories
from udcd_bench.data.batches.augment import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    AffineRange,
    make_affine_grid,
    make_imagenet_stats,
    make_random_views,
    sample_affine_matrices,
)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def normalise(images):
    """Images (B, 3, H, W) in [0, 1] by ImageNet's figures, channel by channel."""
    return torch.stack([(images[:, c] - IMAGENET_MEAN[c]) / IMAGENET_STD[c] for c in range(3)], dim=1)


def draws(n, seed=0):
    """(angle in degrees, shift as fractions of the side, mirrored) of each of n draws, read off the maps."""
    theta = sample_affine_matrices(n, generator(seed)).double()
    mirrored = torch.linalg.det(theta[:, :, :2]) < 0
    angle = torch.rad2deg(torch.atan2(-theta[:, 0, 1], theta[:, 1, 1]))
    return angle, theta[:, :, 2] / 2, mirrored


def test_draws_fill_their_ranges_and_no_more():
    angle, shift, mirrored = draws(4000)
    assert 9.9 < angle.max() <= 10 + 1e-4 and -10 - 1e-4 <= angle.min() < -9.9
    assert 0.0198 < shift.max() <= 0.02 + 1e-7 and -0.02 - 1e-7 <= shift.min() < -0.0198
    # uniform: mean 0 and standard deviation range/√3, each within four standard errors
    for values, top in ((angle, 10), (shift[:, 0], 0.02), (shift[:, 1], 0.02)):
        assert abs(values.mean()) < 4 * top / math.sqrt(3 * 4000)
        assert values.std() == pytest.approx(top / math.sqrt(3), rel=0.05)
    assert abs(mirrored.double().mean() - 0.5) < 4 * 0.5 / math.sqrt(4000)
    # and independent of one another
    together = torch.corrcoef(torch.stack([angle, shift[:, 0], shift[:, 1], mirrored.double()]))
    assert (together - torch.eye(4)).abs().max() < 4 / math.sqrt(4000)


def test_every_image_has_its_own_draw():
    same = torch.rand(1, 3, 16, 16, generator=generator(7)).repeat(32, 1, 1, 1)
    turned = make_random_views(same, 1, generator())[0]
    assert len({tuple(image.flatten().tolist()) for image in turned}) == 32


def smooth(n=24, side=40):
    """Random smooth images, so that interpolation is what is compared and not noise."""
    coarse = torch.rand(n, 3, 6, 6, generator=generator(3))
    return torch.nn.functional.interpolate(coarse, (side, side), mode="bicubic").clamp(0, 1)


def test_it_is_torchvisions_affine_image_by_image():
    """Mirror ∘ (turn against the clock by the angle) ∘ (move by minus the shift), in torchvision's words.

    Away from the border both interpolate the same four pixels: the tolerance of 1e-4 is float32's, in the
    coordinates. Within three pixels of the border they treat the outside differently, which is not compared.
    """
    images = smooth()
    side = images.shape[-1]
    got = make_random_views(images, 1, generator(11))[0]
    for image, turned, angle, shift, mirrored in zip(images, got, *draws(len(images), 11)):
        radians = math.radians(angle)
        x, y = (-side * shift).tolist()
        # torchvision turns clockwise and then moves, so the move is turned first
        moved = [
            math.cos(radians) * x + math.sin(radians) * y,
            -math.sin(radians) * x + math.cos(radians) * y,
        ]
        wanted = oracle.affine(
            image, -float(angle), moved, 1.0, [0.0, 0.0], interpolation=InterpolationMode.BILINEAR
        )
        wanted = oracle.horizontal_flip(wanted) if mirrored else wanted
        inner = slice(8, side - 8)
        assert_close(turned[:, inner, inner], wanted[:, inner, inner], atol=1e-4, rtol=0)
        assert (turned - image)[:, inner, inner].abs().max() > 1e-3, "something happened"


def test_what_comes_from_outside_is_black():
    white = torch.ones(200, 1, 32, 32)
    turned = make_random_views(white, 1, generator())[0]
    angle, _, _ = draws(200)
    corners = turned[:, 0, [0, 0, -1, -1], [0, -1, 0, -1]]
    assert (corners[angle.abs() > 8].min(dim=1).values == 0).all()
    assert (turned[:, :, 10:-10, 10:-10] > 1 - 1e-5).all()
    assert turned.min() == 0 and turned.max() <= 1 + 1e-5


def test_a_warp_of_nothing_changes_nothing_and_its_bounds_hold():
    images = smooth()
    assert_close(
        make_random_views(images, 1, generator(), AffineRange(0, 0, 0))[0], images, atol=1e-5, rtol=0
    )
    assert_close(
        make_random_views(images, 1, generator(), AffineRange(0, 0, 1))[0], images.flip(3), atol=1e-5, rtol=0
    )
    theta = sample_affine_matrices(500, generator(), AffineRange(rotation=45, translation=0.2, flip=0.1))
    assert 0.37 < theta[:, :, 2].abs().max() <= 0.4 + 1e-6
    assert math.sin(math.radians(43)) < theta[:, 0, 1].abs().max() <= math.sin(math.radians(45)) + 1e-6
    assert 0.05 < (torch.linalg.det(theta[:, :, :2]) < 0).float().mean() < 0.15


def test_normalisation_is_imagenets():
    images = torch.rand(2, 3, 4, 4, generator=generator())
    mean, std = make_imagenet_stats(torch.device("cpu"))
    assert_close((255 * images - mean) / std, normalise(images))


@pytest.mark.parametrize(("height", "width"), [(7, 7), (5, 9), (1, 2)])
def test_the_grid_is_the_frameworks(height, width):
    theta = sample_affine_matrices(6, generator(), AffineRange(180, 0.4, 0.5))
    wanted = torch.nn.functional.affine_grid(theta, [6, 3, height, width], align_corners=False)
    assert_close(make_affine_grid(theta, height, width), wanted, atol=1e-6, rtol=0)


# --- batches --------------------------------------------------------------------------------------------------


def epoch(data, batch=8, views=2):
    return list(data.iterate_batches(batch, views))


def test_every_image_once_an_epoch_in_a_new_order():
    data = factories.dataset(n=41)
    resident = factories.resident(data)
    orders = []
    for _ in range(2):
        batches = epoch(resident)
        assert [len(b.index) for b in batches] == [8] * 5, "a last batch of one has no variance"
        orders.append(torch.cat([b.index for b in batches]))
        assert len(set(orders[-1].tolist())) == 40
        for b in batches:
            assert (b.labels.numpy() == data.labels[b.index]).all() and b.labels.dtype == torch.int64
    assert not torch.equal(*orders)
    whole = torch.cat([b.index for b in epoch(factories.resident(factories.dataset(n=42)))])
    assert sorted(whole.tolist()) == list(range(42)), "a last batch of two is kept"


@pytest.mark.parametrize(("n", "steps"), [(8, 1), (9, 1), (10, 2), (16, 2), (17, 2)])
def test_steps_are_counted_as_they_are_made(n, steps):
    resident = factories.resident(factories.dataset(), np.arange(n))
    assert resident.count_steps(8) == steps == len(epoch(resident))


def test_the_two_views_are_draws_of_the_same_images():
    colours = np.random.default_rng(0).integers(0, 256, (40, 1, 1, 3), np.uint8)
    data = factories.dataset(images=np.tile(colours, (1, factories.SIZE, factories.SIZE, 1)))
    batch = epoch(factories.resident(data))[0]
    first, second = batch.views
    assert first.shape == second.shape == (8, 3, 32, 32)
    assert all(not torch.equal(a, b) for a, b in zip(first, second))
    assert all(view.is_contiguous(memory_format=torch.channels_last) for view in batch.views)
    # by the colour in its middle each view is seen to be of the image its index names
    wanted = normalise(torch.from_numpy(data.images[batch.index]).permute(0, 3, 1, 2) / 255)[:, :, 16, 16]
    for view in batch.views:
        assert_close(view[:, :, 16, 16], wanted, atol=1e-4, rtol=0)
    (alone,) = epoch(factories.resident(data), views=1)[0].views
    assert alone.shape == first.shape


AUGMENT = pytest.mark.parametrize("augment", ["paper", "randaugment"])


@AUGMENT
def test_only_its_own_seeds_count(augment):
    data = factories.dataset()
    torch.manual_seed(1)
    first = epoch(factories.resident(data, augment=augment))
    torch.manual_seed(2)
    np.random.seed(3)
    state = torch.get_rng_state()
    second = epoch(factories.resident(data, augment=augment))
    assert torch.equal(state, torch.get_rng_state()), "and it draws nothing from the global generator"
    for a, b in zip(first, second, strict=True):
        assert torch.equal(a.index, b.index)
        assert all(torch.equal(x, y) for x, y in zip(a.views, b.views))


@AUGMENT
def test_a_restored_state_gives_the_same_epoch(augment):
    data = factories.dataset()
    one, other = (factories.resident(data, augment=augment) for _ in range(2))
    epoch(one)
    state = {key: value.clone() for key, value in one.get_state().items()}
    wanted = epoch(one)
    other.restore(state)
    for a, b in zip(wanted, epoch(other), strict=True):
        assert torch.equal(a.index, b.index)
        assert all(torch.equal(x, y) for x, y in zip(a.views, b.views))


def test_randaugment_is_torchvisions_image_by_image_and_view_by_view_before_the_turn():
    images = np.random.default_rng(4).integers(0, 256, (40, 16, 16, 3), np.uint8)
    resident = factories.resident(factories.dataset(images=images), augment="randaugment")
    resident.affine_range = AffineRange(0, 0, 0)
    torch.set_rng_state(resident.randaugment.generator.get_state())
    transform = v2.RandAugment()
    for batch in epoch(resident)[:2]:
        for view in batch.views:
            chosen = torch.from_numpy(images[batch.index]).permute(0, 3, 1, 2)
            altered = torch.stack([transform(image) for image in chosen])
            assert_close(view, normalise(altered / 255), atol=1e-4, rtol=0)
            assert not torch.equal(altered, chosen)
            assert len({int((a != c).sum()) for a, c in zip(altered, chosen)}) > 1, "not all alike"


def test_randaugment_leaves_the_order_and_the_turns_as_they_are():
    data = factories.dataset()
    plain, altered = (factories.resident(data, augment=augment) for augment in ("paper", "randaugment"))
    for a, b in zip(epoch(plain), epoch(altered), strict=True):
        assert torch.equal(a.index, b.index) and not torch.equal(a.views[0], b.views[0])
        assert a.views[0].stride() == b.views[0].stride()
    states = plain.get_state(), altered.get_state()
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    assert states[1].keys() - states[0].keys() == {"randaugment"}


@AUGMENT
def test_tests_see_the_images_as_they_are(augment):
    data = factories.dataset()
    rows = np.array([5, 3, 20, 0, 1])
    parts = list(factories.resident(data, rows, augment).iterate_images(2))
    assert [len(part) for part in parts] == [2, 2, 1]
    wanted = (data.images[rows] / 255 - np.array(IMAGENET_MEAN)) / np.array(IMAGENET_STD)
    assert_close(torch.cat(parts).permute(0, 2, 3, 1), torch.from_numpy(wanted).float(), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("mapped", [False, True])
def test_streamed_batches_are_the_resident_ones_bit_for_bit(monkeypatch, tmp_path, mapped):
    data = factories.dataset()
    rows = np.random.default_rng(1).permutation(40)[:33]
    held = factories.resident(data, rows)
    monkeypatch.setattr(
        "udcd_bench.data.batches.resident.compute_memory_budget", lambda device: 33 * 32 * 32 * 3 - 1
    )
    if mapped:
        np.save(tmp_path / "images.npy", data.images)
        data = factories.dataset(images=np.load(tmp_path / "images.npy", mmap_mode="r"))
    streamed = factories.resident(data, rows)
    assert held.device_images is not None and streamed.device_images is None
    for views in (1, 2):
        for a, b in zip(epoch(held, 8, views), epoch(streamed, 8, views), strict=True):
            assert torch.equal(a.index, b.index) and torch.equal(a.labels, b.labels)
            assert all(torch.equal(x, y) and x.stride() == y.stride() for x, y in zip(a.views, b.views))
    for x, y in zip(held.iterate_images(7), streamed.iterate_images(7), strict=True):
        assert torch.equal(x, y)


def test_the_next_batch_is_read_while_one_is_used_and_a_failure_is_told(monkeypatch):
    monkeypatch.setattr("udcd_bench.data.batches.resident.compute_memory_budget", lambda device: 0)
    streamed = factories.resident(factories.dataset())
    read, seen = streamed._read_images, []

    def reading(index):
        seen.append(len(index))
        if len(seen) == 3:
            raise OSError("the disk is gone")
        return read(index)

    streamed._read_images = reading
    batches = streamed.iterate_batches(8, 1)
    next(batches)
    for _ in range(200):
        if len(seen) == 2:
            break
        time.sleep(0.01)
    assert len(seen) == 2, "one ahead, and no more"
    next(batches)
    with pytest.raises(OSError, match="the disk is gone"):
        next(batches)
