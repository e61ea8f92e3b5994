"""Naive reference implementations of losses and input, which ``bench --forms`` compares this suite's own with.

Each is written as its equation is printed, or as image pipelines usually are.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from udcd_bench import losses
from udcd_bench.bench.ratio import compute_quartiles, time_pair
from udcd_bench.bench.step import WARM_UP_ROUNDS, BenchConfig, Clock, TimedMethod, make_random_data
from udcd_bench.data.batches.augment import IMAGENET_MEAN, IMAGENET_STD, PAPER_AFFINE
from udcd_bench.memory import ContrastMemory

Loss = Callable[[Tensor, Tensor], Tensor]

ROUNDS = 15
"""Timed pairs of each form."""


def compute_gathered_scores(
    z: Tensor, bank: Tensor, index: Tensor, normaliser: Tensor, temperature: float
) -> Tensor:
    """Compute the memory's scores (B, P + K) from a tensor of all sampled rows, (B, P + K, D)."""
    rows = bank.index_select(0, index.flatten()).view(*index.shape, -1)
    return (torch.bmm(rows, z[:, :, None]).squeeze(2) / temperature).exp() / normaliser


def compute_angle_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Compute RKD's angle loss from a tensor of all unit differences, (B, B, F), for each of two networks."""

    def compute_cosines(x: Tensor) -> Tensor:
        e = F.normalize(x[None] - x[:, None], dim=2)
        return torch.bmm(e, e.transpose(1, 2))

    return F.smooth_l1_loss(compute_cosines(student), compute_cosines(teacher))


def compute_gram_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Compute the channel Gram term from both Gram matrices, (B, F, F)."""
    a, t = student.flatten(2), teacher.flatten(2)
    scale = 1 / (a.shape[1] * a.shape[2])
    return ((a @ a.mT - t @ t.mT) * scale).square().mean().sqrt()


def decode_batch(files: list[bytes], size: int) -> list[Tensor]:
    """Make two views of JPEGs as a loader with PIL does every epoch: each decoded once, resized and warped twice.

    Both are (B, 3, H, W), channels last in memory as the loop's batches are.
    """
    from PIL import Image
    from torchvision import transforms

    view = transforms.Compose(
        [
            transforms.Resize((size, size)),
            transforms.RandomAffine(
                PAPER_AFFINE.rotation,
                (PAPER_AFFINE.translation, PAPER_AFFINE.translation),
                interpolation=transforms.InterpolationMode.BILINEAR,
            ),
            transforms.RandomHorizontalFlip(PAPER_AFFINE.flip),
            transforms.ToTensor(),
            transforms.Normalize(IMAGENET_MEAN, IMAGENET_STD),
        ]
    )
    decoded = (Image.open(io.BytesIO(file)).convert("RGB") for file in files)
    views = zip(*([view(image) for _ in range(2)] for image in decoded))
    return [torch.stack(images).contiguous(memory_format=torch.channels_last) for images in views]


def make_jpeg(width: int, height: int) -> bytes:
    """Make a random JPEG with a photograph's grain: one byte a pixel, as HAM10000's files have (2.7 GB for 10 015)."""
    from PIL import Image

    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (height // 10, width // 10, 3), dtype=np.uint8)
    smooth = np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))
    grained = (smooth + rng.normal(0, 12, smooth.shape)).clip(0, 255).astype(np.uint8)
    out = io.BytesIO()
    Image.fromarray(grained).save(out, "JPEG", quality=98)
    return out.getvalue()


class Form(NamedTuple):
    """A computation of this suite and the direct one.

    what: its name and sizes. errors: of ours and of the direct one against float64, None where the two compute
    different things. single_core: time it on one thread.
    """

    what: str
    ours: Callable[[], object]
    direct: Callable[[], object]
    errors: tuple[float, float] | None = None
    single_core: bool = False


def compare_forms(threads: int = 0, log: Callable[[str], None] = lambda line: None) -> list[dict[str, Any]]:
    """Time each form against the direct one, forward and backward, by paired ratios on the CPU: a row for each."""
    if threads:
        torch.set_num_threads(threads)
    torch.manual_seed(0)
    clock = Clock(torch.device("cpu"))
    builders = (
        _build_memory_form,
        _build_angle_form,
        _build_gram_form,
        _build_cra_form,
        _build_views_form,
        _build_large_views_form,
    )
    rows = []
    for build in builders:
        form = build()
        threads_before = torch.get_num_threads()
        if form.single_core:
            torch.set_num_threads(1)
        pairs = [time_pair(clock, form.ours, form.direct) for _ in range(WARM_UP_ROUNDS + ROUNDS)]
        torch.set_num_threads(threads_before)
        rows.append(_make_row(form, pairs[WARM_UP_ROUNDS:]))
        log(f"{form.what}: {rows[-1]['ratio']['median']:.1f}×")
    return rows


def _make_row(form: Form, pairs: list[tuple[float, float]]) -> dict[str, Any]:
    row: dict[str, Any] = {"what": form.what, "ratio": compute_quartiles([b / a for a, b in pairs])}
    row["ours_ms"], row["direct_ms"] = (float(np.median(side)) for side in zip(*pairs))
    return row | ({"errors": form.errors} if form.errors else {})


def _compute_errors(ours: Tensor, direct: Tensor, exact: Tensor) -> tuple[float, float]:
    """Compute the largest error of each, relative to the largest true value."""
    scale = exact.abs().max()
    ours, direct = (((x.double() - exact).abs().max() / scale) for x in (ours, direct))
    return float(ours), float(direct)


def _run_backward(loss: Tensor) -> None:
    loss.backward()  # type: ignore[no-untyped-call]


def _build_memory_form() -> Form:
    n, batch, k = 8000, 64, 4096
    memory = ContrastMemory(n, 128)
    student, teacher = (F.normalize(torch.randn(batch, 128)).requires_grad_() for _ in range(2))
    index = torch.randint(n, (batch, k + 1))
    memory(student, teacher, index)

    def compute_gathered() -> tuple[Tensor, Tensor]:
        t = memory.temperature
        return (
            compute_gathered_scores(student, memory.teacher, index, memory.z_student, t),
            compute_gathered_scores(teacher, memory.student, index, memory.z_teacher, t),
        )

    def backpropagate(scores: tuple[Tensor, Tensor]) -> None:
        one, other = (losses.nce(x, n_positives=1, n_data=n) for x in scores)
        _run_backward(one + other)

    with torch.no_grad():
        bank, normaliser = memory.teacher.double(), memory.z_student.double()
        exact = compute_gathered_scores(student.double(), bank, index, normaliser, memory.temperature)
        errors = _compute_errors(memory(student, teacher, index)[0], compute_gathered()[0], exact)
    return Form(
        "contrast memory, K=4096, D=128, B=64, 8000 images",
        lambda: backpropagate(memory(student, teacher, index)),
        lambda: backpropagate(compute_gathered()),
        errors,
    )


def _build_form(name: str, loss: Loss, direct: Loss, *shape: int) -> Form:
    """Build the form of a loss of a student's and a teacher's tensors; errors are those of the first eight rows."""
    student, teacher = (torch.randn(*shape).relu() for _ in range(2))
    few = student[:8], teacher[:8]
    errors = _compute_errors(loss(*few), direct(*few), direct(*(x.double() for x in few)))
    student.requires_grad_()
    return Form(
        name,
        lambda: _run_backward(loss(student, teacher)),
        lambda: _run_backward(direct(student, teacher)),
        errors,
    )


def _build_angle_form() -> Form:
    return _build_form("rkd_angle, B=128, F=1024", losses.rkd_angle, compute_angle_loss, 128, 1024)


def _build_gram_form() -> Form:
    return _build_form(
        "channel_gram, 2048 channels, 7×7, B=16", losses.channel_gram, compute_gram_loss, 16, 2048, 7, 7
    )


def _build_cra_form() -> Form:
    student, teacher = (torch.randn(64, 7).softmax(1) for _ in range(2))
    student.requires_grad_()
    subject = TimedMethod(BenchConfig(("scratch",), n_train=64), "scratch")
    return Form(
        "cra, B=64, C=7, against a DenseNet-121 step at 64²",
        lambda: _run_backward(losses.cra(student, teacher)),
        subject.run_floor,
    )


def _build_views_form(width: int = 600, height: int = 450, size: int = 224) -> Form:
    batch = 16
    files = [make_jpeg(width, height)] * batch
    data = make_random_data(
        BenchConfig((), image_size=size, batch=batch, n_train=4 * batch), torch.device("cpu")
    )

    def iterate_resident() -> None:
        for _ in data.iterate_batches(batch, 2):
            pass

    def decode_files() -> None:
        for _ in range(len(data) // batch):
            decode_batch(files, size)

    what = f"two views of 64 images, {size}², JPEG {width}×{height}, per core"
    return Form(what, iterate_resident, decode_files, single_core=True)


def _build_large_views_form() -> Form:
    return _build_views_form(2048, 1536)
