"""A run's network in a file for other programs: ONNX, PyTorch's exported program, or its tensors as safetensors.

What is written takes normalised images and returns logits: no teacher, no memory, no head that is not tested. How
images are prepared and what the classes are called stands in the file's metadata, as JSON texts.
"""

from __future__ import annotations

import importlib.util
import io
import json
import warnings
from typing import TYPE_CHECKING, Any

import torch

from udcd_bench.errors import UserError
from udcd_bench.storage.atomic import write_atomically

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from contextlib import AbstractContextManager
    from pathlib import Path

    from udcd_bench.inference.stored_run import StoredRun

INSTALL = "pip install 'udcd-bench[export]'"
EXAMPLE_BATCH = 2
"""Images that the network is traced with; an exported network takes any number."""
INPUT, OUTPUT = "images", "logits"
"""Names of the tensors in an exported network."""


def check_target(file: Path) -> None:
    """Raise UserError for a file whose ending names no format, or whose format needs what is not installed."""
    if file.suffix.lower() not in _WRITERS:
        raise UserError(f"{file}: give a file that ends in {', '.join(_WRITERS)}.")
    missing = [name for name in ("onnx", "onnxscript") if not _is_installed(name)]
    if file.suffix.lower() == ".onnx" and missing:
        raise UserError(
            f"{file}: ONNX needs {' and '.join(missing)}: `{INSTALL}`, or give {file.with_suffix('.pt2')}."
        )


def _is_installed(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ValueError:  # of a module that is marked as absent
        return False


def export_run(run: StoredRun, file: Path) -> None:
    """Write a run's network to a file whose ending names the format. The run's device should be the CPU.

    Raises UserError as ``check_target`` does, and when the run's weights are not in its folder.
    """
    check_target(file)
    network = run.network
    write_atomically(file, _WRITERS[file.suffix.lower()](run, network))


def describe_run(run: StoredRun) -> dict[str, str]:
    """Describe what a file needs to be used alone: classes, preprocessing, and where it comes from, as JSON texts."""
    record = run.record
    values: dict[str, Any] = {
        "classes": list(run.classes),
        "preprocessing": run.transform.describe(),
        "output": "logits (batch, classes) float32; softmax gives probabilities",
        "run": run.key,
        "label": run.label,
        "spec": record["spec"],
        "split_hash": record["split_hash"],
        "dataset": record["dataset_title"],
        "synthetic": record["synthetic"],
        "environment": record["environment"],
    }
    return {name: json.dumps(value) for name, value in values.items()}


def _trace(run: StoredRun, network: torch.nn.Module) -> torch.export.ExportedProgram:
    """Trace a network for any number of images, without the paths of this machine that the tracer notes."""
    size = run.transform.size
    example = torch.zeros(EXAMPLE_BATCH, 3, size, size)
    batch = torch.export.Dim("batch", min=1)
    with _ignore_warnings():
        program = torch.export.export(
            network, (example,), dynamic_shapes={"images": {0: batch}}, strict=False
        )
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)
    return program


def _write_program(run: StoredRun, network: torch.nn.Module) -> bytes:
    buffer = io.BytesIO()
    with _ignore_warnings():
        torch.export.save(_trace(run, network), buffer, extra_files=describe_run(run))
    return buffer.getvalue()


def _write_onnx(run: StoredRun, network: torch.nn.Module) -> bytes:
    import onnx

    with _ignore_warnings():
        program = torch.onnx.export(
            _trace(run, network),
            dynamo=True,
            input_names=[INPUT],
            output_names=[OUTPUT],
            verbose=False,
        )
    assert program is not None
    model = program.model_proto
    _name_batch(model.graph)
    onnx.helper.set_model_props(model, describe_run(run))
    onnx.checker.check_model(model)
    data: bytes = model.SerializeToString()
    return data


def _name_batch(graph: Any) -> None:
    """Call the number of images ``batch`` in an ONNX graph, where the exporter has numbered it."""
    numbered = graph.input[0].type.tensor_type.shape.dim[0].dim_param
    for value in (*graph.input, *graph.output, *graph.value_info):
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param == numbered:
                dim.dim_param = "batch"


def _write_tensors(run: StoredRun, network: torch.nn.Module) -> bytes:
    from safetensors.numpy import save

    weights = run.store.read_weights(run.key)
    return bytes(save(weights, describe_run(run)))


def _ignore_warnings() -> AbstractContextManager[object]:
    """Ignore what exporters warn of their own insides."""
    return warnings.catch_warnings(action="ignore")


_WRITERS: Mapping[str, Callable[[StoredRun, torch.nn.Module], bytes]] = {
    ".onnx": _write_onnx,
    ".pt2": _write_program,
    ".safetensors": _write_tensors,
}
"""Ending of a file → what makes its bytes."""
