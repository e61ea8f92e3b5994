"""Assembly of a method: its networks by the kind of its teacher, what it knows of the data, its generator."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from torch import Tensor, nn

from udcd_bench.errors import UserError
from udcd_bench.method import DatasetInfo

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import torch

    from udcd_bench.method import BaseMethod
    from udcd_bench.runs.spec import Overrides
    from udcd_bench.training.network import Network


class Networks(NamedTuple):
    """A method's student, and its teacher where it has one."""

    student: Network
    teacher: Network | None


@dataclass(frozen=True)
class MethodOptions:
    """What is chosen for a method beside its data and networks.

    hparams: overrides of its hyper-parameters. ce_normalise: ``Protocol.ce_normalise``.
    generator: of its own random draws, on the device of the labels; None makes one with PyTorch's default seed.
    """

    hparams: Overrides = ()
    ce_normalise: str = "weights"
    generator: torch.Generator | None = None


def build_networks(
    method_class: type[BaseMethod],
    build_student: Callable[[], Network],
    build_teacher: Callable[[], Network] | None = None,
) -> Networks:
    """Build the student, then the teacher: a copy of the student for ``"ema"``, a network of its own otherwise.

    build_teacher: makes the teacher of the kinds ``"own"`` and ``"trained"``; left out, ``build_student`` does.
    Of a method with ``levels = True`` both give the maps of their levels. Raises UserError when one has too few.
    """
    networks = _build_kinds(method_class, build_student, build_teacher)
    if method_class.levels:
        for network in networks:
            if network is not None:
                network.collect_levels()
    return networks


def _build_kinds(
    method_class: type[BaseMethod],
    build_student: Callable[[], Network],
    build_teacher: Callable[[], Network] | None,
) -> Networks:
    student = build_student()
    if method_class.teacher is None:
        return Networks(student, None)
    if method_class.teacher == "ema":
        return Networks(student, copy.deepcopy(student))
    return Networks(student, (build_teacher or build_student)())


def assemble_method(
    method_class: type[BaseMethod],
    networks: Networks,
    labels: Tensor,
    classes: int,
    options: MethodOptions = MethodOptions(),
) -> BaseMethod:
    """Put a method together on the device of its training labels.

    labels: (n_train,) int64, in the order that ``Batch.index`` counts. classes: the number of classes.
    A method's heads are initialised here, from PyTorch's global random state; the caller seeds it.
    Raises UserError when it holds a parameter where no stage would train it.
    """
    student, teacher = networks
    info = DatasetInfo.from_labels(labels, classes, student, teacher, ce_normalise=options.ce_normalise)
    method = method_class(info, student, teacher, options.hparams, options.generator)
    refuse_untrained(method)
    return method.to(labels.device)


def refuse_untrained(method: BaseMethod) -> None:
    """Raise UserError for parameters outside the method's modules: these are what is trained, moved and resumed."""
    inner = {id(p) for module in method.children() for p in module.parameters()}
    own = dict(method.named_parameters(recurse=False))
    for name, value in {**vars(method), "_parameters": None, **own}.items():
        if all(id(tensor) in inner or not tensor.requires_grad for tensor in _list_tensors(value)):
            continue
        if isinstance(value, Tensor):
            fix = f"is a parameter of no module, so nothing trains it; write self.{name} = nn.ParameterList([…])"
        else:
            kind = "Dict" if isinstance(value, dict) else "List"
            fix = f"is a plain {type(value).__name__} of modules or parameters, so nothing trains them; "
            fix += f"make it an nn.Module{kind} or nn.Parameter{kind}"
        raise UserError(f"{method.title}: {name} {fix}.")


def _list_tensors(value: object) -> Iterator[Tensor]:
    """List the parameters of a module, and what stands in a list, tuple, set or dict."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, nn.Module):
        yield from value.parameters()
    elif isinstance(value, list | tuple | set | dict):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _list_tensors(item)
