"""The contrast memory against reference values, slow loops, and the promises in its docstrings."""

from pathlib import Path

import numpy as np
import pytest
import torch

from support import oracles
from udcd_bench import memory as memory_module
from udcd_bench.losses import nce
from udcd_bench.memory import ContrastMemory

GOLDENS = sorted((Path(__file__).parents[1] / "goldens").glob("memory_1_*.npz"))


def unit(seed, *shape, dtype=torch.float64):
    x = torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return (x / x.norm(dim=-1, keepdim=True)).to(dtype)


def small(n_data=9, dim=4, dtype=torch.float64, **options):
    torch.manual_seed(0)
    return ContrastMemory(n_data, dim, **options).to(dtype)


def drawn(seed, n, *shape):
    return torch.randint(n, shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 1e-5)])
@pytest.mark.parametrize("file", GOLDENS, ids=lambda f: f.stem)
def test_three_steps_match_the_reference(file, dtype, tolerance):
    with np.load(file) as archive:
        z = {key: torch.from_numpy(archive[key]) for key in archive.files}
    memory = ContrastMemory(*z["bank_student"].shape, float(z["temperature"]), float(z["momentum"])).to(dtype)
    memory.student.copy_(z["bank_student"])
    memory.teacher.copy_(z["bank_teacher"])

    def check(found, name):
        assert found.dtype == dtype
        assert float((found - z[name]).abs().max() / z[name].abs().max()) <= tolerance, name

    for step in range(3):
        student, teacher = (z[f"{side}_{step}"].to(dtype) for side in ("student", "teacher"))
        scores = memory(student, teacher, z[f"contrast_index_{step}"])
        check(scores[0], f"scores_student_{step}")
        check(scores[1], f"scores_teacher_{step}")
        memory.update(student, teacher, z[f"index_{step}"])
        check(memory.student, f"bank_student_after_{step}")
        check(memory.teacher, f"bank_teacher_after_{step}")


@pytest.mark.parametrize("direct_above", [0, 64])
def test_scores_and_banks_match_the_slow_loop(monkeypatch, direct_above):
    monkeypatch.setattr(memory_module, "GATHER_RATIO", direct_above)
    memory = small(temperature=0.3, momentum=0.7)
    normalisers = [None, None]
    for step in range(3):
        student, teacher = unit(10 + step, 3, 4), unit(20 + step, 3, 4)
        index, chosen = drawn(step, 9, 3, 5), drawn(30 + step, 9, 3)
        banks = [memory.student.tolist(), memory.teacher.tolist()]
        for side, (z, bank) in enumerate(((student, banks[1]), (teacher, banks[0]))):
            wanted, normalisers[side] = oracles.memory_scores(
                z.tolist(), bank, index.tolist(), 0.3, 9, normalisers[side]
            )
            found = memory(student, teacher, index)[side]
            torch.testing.assert_close(found, torch.tensor(wanted, dtype=torch.float64), rtol=1e-9, atol=0)
        memory.update(student, teacher, chosen)
        for bank, before, new in zip((memory.student, memory.teacher), banks, (student, teacher)):
            wanted = oracles.memory_update(before, new.tolist(), chosen.tolist(), 0.7)
            torch.testing.assert_close(bank, torch.tensor(wanted, dtype=torch.float64), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("direct_above", [0, 64])
def test_gradient_agrees_with_differences(monkeypatch, direct_above):
    monkeypatch.setattr(memory_module, "GATHER_RATIO", direct_above)
    memory = small(temperature=0.5)
    index = drawn(0, 9, 3, 6)
    memory(unit(0, 3, 4), unit(1, 3, 4), index)  # fixes Z
    leaves = [unit(seed, 3, 4).requires_grad_() for seed in (2, 3)]
    assert torch.autograd.gradcheck(lambda s, t: memory(s, t, index), leaves)


def test_normalisers_are_fixed_by_the_first_batch_and_stored():
    memory = small()
    assert float(memory.z_student) < 0
    assert float(memory.z_teacher) < 0
    scores = memory(unit(0, 2, 4), unit(1, 2, 4), drawn(0, 9, 2, 5))
    assert float(scores[0].mean()) == pytest.approx(1 / 9)
    fixed = memory.z_student.clone(), memory.z_teacher.clone()
    memory(unit(2, 2, 4), unit(3, 2, 4), drawn(1, 9, 2, 5))
    assert (memory.z_student, memory.z_teacher) == fixed
    other = small()
    other.load_state_dict(memory.state_dict())
    assert (other.z_student, other.z_teacher) == fixed
    assert not list(memory.parameters())


def test_draw_is_uniform_in_its_bounds_and_follows_the_seed():
    a, b = small(2000, 12), small(2000, 12)
    assert torch.equal(a.student, b.student)
    assert not torch.equal(a.student, a.teacher)
    assert float(a.student.abs().max()) <= 0.5
    assert float(a.student.std()) == pytest.approx(0.5 / 3**0.5, rel=0.02)


def test_of_duplicates_the_last_wins():
    memory = small()
    new = unit(5, 4, 4)
    wanted = oracles.memory_update(memory.student.tolist(), new.tolist(), [3, 1, 3, 3], 0.5)
    memory.update(new, new, torch.tensor([3, 1, 3, 3]))
    torch.testing.assert_close(memory.student, torch.tensor(wanted, dtype=torch.float64))


@pytest.mark.parametrize("direct_above", [0, 64])
def test_updating_before_or_after_the_backward_pass_makes_no_difference(monkeypatch, direct_above):
    """The banks are replaced, so the backward pass has the rows that the scores were computed from."""
    monkeypatch.setattr(memory_module, "GATHER_RATIO", direct_above)
    gradients, states = [], []
    for early in (False, True):
        memory, index = small(), torch.tensor([0, 1])
        student, teacher = (unit(seed, 2, 4).requires_grad_() for seed in (0, 1))
        scores = memory(student, teacher, drawn(0, 9, 2, 5))
        before = {name: value.clone() for name, value in memory.state_dict().items()}
        if early:
            memory.update(student, teacher, index)
        sum(scores).sum().backward()
        if not early:
            memory.update(student, teacher, index)
        gradients.append((student.grad, teacher.grad))
        states.append(memory.state_dict())
        assert student.grad.abs().min() > 0
        assert not torch.equal(before["student"], memory.student)
        assert not memory.student.requires_grad and not memory.teacher.requires_grad
    assert all(map(torch.equal, *gradients))
    for name, value in states[0].items():
        assert torch.equal(states[1][name], value), name


@pytest.mark.parametrize("half", [torch.float16, torch.bfloat16])
def test_half_precision_input_and_autocast(half):
    memory = small(dtype=torch.float32)
    student, teacher = (unit(s, 3, 4, dtype=half).requires_grad_() for s in (0, 1))
    with torch.autocast("cpu", torch.bfloat16):
        scores = memory(student, teacher, drawn(0, 9, 3, 5))
        loss = sum(nce(x, 1, 9) for x in scores)
    assert all(x.dtype == torch.float32 for x in scores)
    loss.backward()
    assert student.grad.isfinite().all()
    assert teacher.grad.isfinite().all()
    wanted = small(dtype=torch.float32)(student.float(), teacher.float(), drawn(0, 9, 3, 5))
    torch.testing.assert_close(scores, wanted)
    with torch.autocast("cpu", torch.bfloat16):
        memory.update(student, teacher, torch.tensor([0, 1, 2]))
    assert memory.student.dtype == torch.float32
    torch.testing.assert_close(memory.student[:3].norm(dim=1), torch.ones(3))


def test_degenerate_rows_stay_finite():
    memory = small(1, 4, torch.float32)
    zero = torch.zeros(1, 4, requires_grad=True)
    scores = memory(zero, zero, torch.zeros(1, 1, dtype=torch.long))
    sum(nce(x, 1, 1) for x in scores).backward()
    assert zero.grad.isfinite().all()
    memory.update(-memory.student, -memory.teacher, torch.tensor([0]))  # cancels each row
    assert memory.student.isfinite().all()


def test_no_tensor_of_rows_by_samples_by_width_is_kept():
    memory = small(500, 32, torch.float32)
    student, teacher = (unit(s, 8, 32, dtype=torch.float32).requires_grad_() for s in (0, 1))
    index, kept = drawn(0, 500, 8, 300), []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x.numel()) or x, lambda x: x):
        memory(student, teacher, index)
    assert max(kept) < 8 * 300 * 32


def test_nothing_is_read_back_from_the_device():
    memory = small().to("meta")  # has no data to read
    student, teacher = (unit(s, 3, 4).to("meta").requires_grad_() for s in (0, 1))
    sum(memory(student, teacher, drawn(0, 9, 3, 5).to("meta"))).sum().backward()
    memory.update(student, teacher, drawn(0, 9, 3).to("meta"))
    assert student.grad.shape == (3, 4)


@pytest.mark.parametrize("arguments", [(0, 4), (4, 0), (4, 4, 0.0), (4, 4, 0.1, 1.5)])
def test_wrong_arguments_are_refused(arguments):
    with pytest.raises(ValueError, match="positive"):
        ContrastMemory(*arguments)
