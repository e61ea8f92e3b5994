"""The forms of the losses and of the input that this suite does without, to compare its own with.

Each is written as its equation stands, or as image pipelines usually are.
"""

from __future__ import annotations

import io
import random
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from udcd_bench import losses
from udcd_bench.bench.ratio import compute_quartiles
from udcd_bench.bench.step import WARM_UP_ROUNDS, BenchConfig, Clock, TimedMethod, make_random_data
from udcd_bench.data.batches.augment import IMAGENET_MEAN, IMAGENET_STD, PAPER_AFFINE
from udcd_bench.memory import ContrastMemory

if TYPE_CHECKING:
    from collections.abc import Callable

    Loss = Callable[[Tensor, Tensor], Tensor]

ROUNDS = 15


def compute_gathered_scores(
    z: Tensor, bank: Tensor, index: Tensor, normaliser: Tensor, temperature: float
) -> Tensor:
    """Scores (B, P + K) from the sampled rows themselves, (B, P + K, D) of them."""
    rows = bank.index_select(0, index.flatten()).view(*index.shape, -1)
    return (torch.bmm(rows, z[:, :, None]).squeeze(2) / temperature).exp() / normaliser


def compute_angle_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """RKD's angle loss from the B² unit differences, (B, B, F) of them, for each of two networks."""

    def cosines(x: Tensor) -> Tensor:
        e = F.normalize(x[None] - x[:, None], dim=2)
        return torch.bmm(e, e.transpose(1, 2))

    return F.smooth_l1_loss(cosines(student), cosines(teacher))


def compute_gram_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """The channel Gram term from both Gram matrices, (B, F, F)."""
    a, t = student.flatten(2), teacher.flatten(2)
    scale = 1 / (a.shape[1] * a.shape[2])
    return ((a @ a.mT - t @ t.mT) * scale).square().mean().sqrt()


def decode_batch(files: list[bytes], size: int) -> list[Tensor]:
    """Two views of JPEGs as a loader with PIL makes them every epoch: each decoded once, resized and warped twice.

    Both (B, 3, H, W) and laid out in memory as the loop's are.
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
    images = (Image.open(io.BytesIO(file)).convert("RGB") for file in files)
    views = zip(*([view(image) for _ in range(2)] for image in images))
    return [torch.stack(drawn).contiguous(memory_format=torch.channels_last) for drawn in views]


def make_jpeg(width: int, height: int) -> bytes:
    """A random picture with a photograph's grain: one byte a pixel, as HAM10000's files have (2.7 GB for 10 015)."""
    from PIL import Image

    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (height // 10, width // 10, 3), dtype=np.uint8)
    smooth = np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))
    grained = (smooth + rng.normal(0, 12, smooth.shape)).clip(0, 255).astype(np.uint8)
    out = io.BytesIO()
    Image.fromarray(grained).save(out, "JPEG", quality=98)
    return out.getvalue()


def compare_forms(threads: int = 0, log: Callable[[str], None] = lambda line: None) -> list[dict[str, Any]]:
    """Each form against the direct one, forward and backward, by paired ratios on the CPU."""
    if threads:
        torch.set_num_threads(threads)
    torch.manual_seed(0)
    clock = Clock(torch.device("cpu"))
    rows = []
    for make in (
        _build_memory_form,
        _build_angle_form,
        _build_gram_form,
        _build_cra_form,
        _build_views_form,
        _build_large_views_form,
    ):
        what, ours, direct, errors = make()
        before = torch.get_num_threads()
        if "per core" in what:
            torch.set_num_threads(1)
        pairs = [_time_pair(clock, ours, direct) for _ in range(WARM_UP_ROUNDS + ROUNDS)][WARM_UP_ROUNDS:]
        torch.set_num_threads(before)
        row: dict[str, Any] = {"what": what, "ratio": compute_quartiles([b / a for a, b in pairs])}
        row["ours_ms"], row["direct_ms"] = (float(np.median(side)) for side in zip(*pairs))
        rows.append(row | ({"errors": errors} if errors else {}))
        log(f"{what}: {row['ratio']['median']:.1f}×")
    return rows


Form = tuple[str, "Callable[[], object]", "Callable[[], object]", tuple[float, float] | None]


def _time_pair(clock: Clock, ours: Callable[[], object], direct: Callable[[], object]) -> tuple[float, float]:
    both = [(0, ours), (1, direct)]
    random.shuffle(both)
    took = {kind: clock(call) for kind, call in both}
    return took[0], took[1]


def _compute_errors(ours: Tensor, direct: Tensor, exact: Tensor) -> tuple[float, float]:
    """Largest errors, relative to the largest true value."""
    top = exact.abs().max()
    ours, direct = (((x.double() - exact).abs().max() / top) for x in (ours, direct))
    return float(ours), float(direct)


def _run_backward(loss: Tensor) -> None:
    loss.backward()  # type: ignore[no-untyped-call]


def _build_memory_form() -> Form:
    n, batch, k = 8000, 64, 4096
    memory = ContrastMemory(n, 128)
    student, teacher = (F.normalize(torch.randn(batch, 128)).requires_grad_() for _ in range(2))
    index = torch.randint(n, (batch, k + 1))
    memory(student, teacher, index)

    def gathered() -> tuple[Tensor, Tensor]:
        t = memory.temperature
        return (
            compute_gathered_scores(student, memory.teacher, index, memory.z_student, t),
            compute_gathered_scores(teacher, memory.student, index, memory.z_teacher, t),
        )

    def learn(scores: tuple[Tensor, Tensor]) -> None:
        one, other = (losses.nce(x, n_positives=1, n_data=n) for x in scores)
        _run_backward(one + other)

    with torch.no_grad():
        bank, normaliser = memory.teacher.double(), memory.z_student.double()
        exact = compute_gathered_scores(student.double(), bank, index, normaliser, memory.temperature)
        errors = _compute_errors(memory(student, teacher, index)[0], gathered()[0], exact)
    return (
        "contrast memory, K=4096, D=128, B=64, 8000 images",
        lambda: learn(memory(student, teacher, index)),
        lambda: learn(gathered()),
        errors,
    )


def _build_form(name: str, loss: Loss, direct: Loss, *shape: int) -> Form:
    """Of two losses of a student's and a teacher's tensors; errors are those of a few of their rows."""
    student, teacher = (torch.randn(*shape).relu() for _ in range(2))
    few = student[:8], teacher[:8]
    errors = _compute_errors(loss(*few), direct(*few), direct(*(x.double() for x in few)))
    student.requires_grad_()
    return (
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
    return (
        "cra, B=64, C=7, against a DenseNet-121 step at 64²",
        lambda: _run_backward(losses.cra(student, teacher)),
        subject.run_floor,
        None,
    )


def _build_views_form(width: int = 600, height: int = 450, size: int = 224) -> Form:
    batch = 16
    files = [make_jpeg(width, height)] * batch
    data = make_random_data(
        BenchConfig((), image_size=size, batch=batch, n_train=4 * batch), torch.device("cpu")
    )

    def ours() -> None:
        for _ in data.iterate_batches(batch, 2):
            pass

    def direct() -> None:
        for _ in range(len(data) // batch):
            decode_batch(files, size)

    return f"two views of 64 images, {size}², JPEG {width}×{height}, per core", ours, direct, None


def _build_large_views_form() -> Form:
    return _build_views_form(2048, 1536)
