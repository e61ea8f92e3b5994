"""The environment of a run: the device that was chosen, and the versions and hardware its results may depend on."""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import subprocess
import sysconfig
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from udcd_bench import __version__, plugins
from udcd_bench.errors import UnreadableError, UserError
from udcd_bench.runs import planner, profiles

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import torch

    from udcd_bench.method import BaseMethod
    from udcd_bench.runs.spec import Overrides, RunSpec


def pick_device(name: str) -> torch.device:
    """Return the PyTorch device of that name. Raises UserError when this machine has no such device.

    name: ``auto``, ``cpu``, ``cuda`` or one GPU such as ``cuda:1``.
    """
    import torch

    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UserError(f"--device {name}: it is one of auto, cpu, cuda, cuda:0, cuda:1 …") from error
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UserError(
            f"--device {name}: torch sees {torch.cuda.device_count()} CUDA devices; try --device cpu."
        )
    if device.type not in ("cpu", "cuda"):
        raise UserError(f"--device {name}: runs are made on cpu or cuda.")
    return device


@contextlib.contextmanager
def use_default_settings() -> Iterator[None]:
    """Give PyTorch the settings of a new process for a while: a notebook may have others, and figures depend on them.

    Gradients are computed, nothing is cast, new tensors are float32 and on the CPU, and matrix products exact.
    """
    import torch

    dtype, products = torch.get_default_dtype(), torch.get_float32_matmul_precision()
    with contextlib.ExitStack() as stack:
        stack.callback(torch.set_default_dtype, dtype)
        stack.callback(torch.set_float32_matmul_precision, products)
        torch.set_default_dtype(torch.float32)
        torch.set_float32_matmul_precision("highest")
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        for kind in ("cpu", "cuda"):
            stack.enter_context(torch.autocast(kind, enabled=False))
        if torch.get_default_device().type != "cpu":
            stack.enter_context(torch.device("cpu"))
        yield


def check_early(specs: Iterable[RunSpec], device: str) -> None:
    """Raise UserError for a device, compiler or backbone that is not there or not fit, before data are prepared.

    device: as of ``pick_device``; empty for runs that are made elsewhere.
    Loads torch only where it must: for the name of a device, and to build a backbone that no profile names.
    """
    if device not in ("", "auto", "cpu"):
        pick_device(device)
    specs = list(specs)
    if device and any(planner.resolve_protocol(spec).compile for spec in specs):
        check_compiler(pick_device(device))
    known = profiles.PROFILES.values()
    checked = {name for profile in known for pair in profile.backbones for name in pair}
    checked |= {profile.backbone for profile in known} | {""}
    # those of the profiles have levels
    pairs = {(name, reads_levels) for name in checked for reads_levels in (False, True)}
    for spec in specs:
        reads_levels = bool(plugins.read_attributes("methods", spec.method).get("levels"))
        for name in {spec.backbone, spec.teacher_backbone}:
            if (name, reads_levels) not in pairs:
                _try_backbone(name, planner.resolve_protocol(spec).image_size, reads_levels)
                pairs.add((name, reads_levels))


def check_reads(specs: Iterable[RunSpec]) -> None:
    """Raise UserError for a method that reads what its run has not: of several teachers, or of mixed images.

    specs: with their teachers named as runs name them. Loads torch only where a run has several or mixes.
    """
    kinds: dict[tuple[str, Overrides, bool, bool], None] = {}
    for spec in planner.list_runs({replace(spec, fold=0, seed=0): None for spec in specs}):
        has_several, mixes = len(planner.list_teachers(spec)) > 1, _mixes(spec)
        if has_several or mixes:
            _, hparams = profiles.split_overrides(spec.hparams)
            kinds.setdefault((spec.method, hparams, has_several, mixes))
    for method, hparams, has_several, mixes in kinds:
        from udcd_bench.training.step.rehearsal import rehearse

        method_class: type[BaseMethod] = plugins.load_class("methods", method)
        try:
            rehearse(method_class, hparams, has_several_teachers=has_several, mixes=mixes)
        except UnreadableError as error:
            raise UserError(f"{method}: {error}") from error


def _mixes(spec: RunSpec) -> bool:
    return planner.resolve_protocol(spec).augment == "mixup"


def _try_backbone(name: str, image_size: int, reads_levels: bool) -> None:
    from udcd_bench.training.network import build_network

    network = build_network(name, 2, weights="none", image_size=image_size)
    if reads_levels:
        network.collect_levels()


def check_compiler(device: torch.device) -> None:
    """Raise UserError when ``torch.compile`` lacks what it needs for this device: a compiler, Python's headers."""
    if device.type == "cpu":
        compiler = os.environ.get("CXX") or "g++"
        missing = "" if shutil.which(compiler) else f"the C++ compiler {compiler}"
    else:
        compilers = [os.environ["CC"]] if os.environ.get("CC") else ["gcc", "clang"]
        missing = "" if any(map(shutil.which, compilers)) else f"a C compiler ({' or '.join(compilers)})"
    if not missing and not Path(sysconfig.get_path("include"), "Python.h").exists():
        missing = "Python's headers (Python.h)"
    if missing:
        raise UserError(f"compile=true needs {missing}, which is not here; install it, or leave compile out.")


def describe_environment(device: torch.device, threads: int, precision: str) -> dict[str, Any]:
    """Describe the versions and hardware that a run's results may depend on.

    threads: CPU threads of the run. precision: ``fp32`` or ``bf16``.
    """
    import timm
    import torch
    import torchvision

    name = torch.cuda.get_device_name(device) if device.type == "cuda" else _read_cpu_name()
    return {
        "udcd_bench": __version__,
        "commit": _find_commit(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "timm": timm.__version__,
        "device": name,
        "threads": threads,
        "precision": precision,
        "deterministic": device.type == "cpu" or torch.are_deterministic_algorithms_enabled(),
    }


def _read_cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return f"cpu {platform.machine()}"
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"cpu {names[0] if names else platform.machine()}"


def _find_commit() -> str:
    """Find the checkout's commit, followed by ``+`` when files differ from it; empty outside a checkout."""
    root = plugins.find_root()
    if not (root / ".git").exists():
        return ""
    # one call says both: the commit in a line "# branch.oid …", and a line for each file that differs
    command = ["git", "-C", str(root), "status", "--porcelain=v2", "--branch", "--untracked-files=no"]
    try:
        # a setting of git's prints names of files as their bytes are
        status = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace", check=True)
    except (OSError, subprocess.CalledProcessError):
        return ""
    lines = status.stdout.splitlines()
    commit = next((line.split()[2] for line in lines if line.startswith("# branch.oid ")), "")
    if commit in ("", "(initial)"):
        return ""
    return commit + ("+" if any(not line.startswith("#") for line in lines) else "")
