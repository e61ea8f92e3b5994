"""The training protocol and its profiles: ``paper``, and the smaller ``quick``, ``lite`` and ``demo`` derived from it.

Each value's source is beside it: P the paper, R its released code, O:CRCKD the ancestor of that code, S this suite.
"""

from __future__ import annotations

import contextlib
import difflib
import math
import re
from dataclasses import dataclass, fields, replace
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any

from udcd_bench.errors import UserError, suggest_nearest

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from udcd_bench.runs.spec import Overrides, Scalar

TINY_DENSENET = "densenet-tiny"
"""A DenseNet small enough for two CPU cores; see ``training.network``."""

AUGMENTS = ("paper", "randaugment", "mixup")
"""What ``Protocol.augment`` may be."""

MOST_SUGGESTED = 12
"""Most numbers of the protocol that a sentence about an unknown setting lists."""

ONE_STAGE = {"train": 1.0}
"""Stage → share of the epochs, for a method that declares no stages."""


@dataclass(frozen=True)
class Protocol:
    """How a network is trained and which figure is reported. Any field can be set with ``--set field=value``."""

    image_size: int = 224  # R, O:CRCKD
    rotation: float = 10.0  # R, O:CRCKD: degrees either way, for every view
    translation: float = 0.02  # R, O:CRCKD: of the side, either way
    flip: float = 0.5  # R, O:CRCKD: chance of a horizontal mirror
    # R, O:CRCKD: the three above alone; randaugment alters each view by torchvision's before, mixup blends images after
    augment: str = "paper"
    batch_size: int = 64  # R, O:CRCKD
    epochs: int = 80  # R, O:CRCKD
    learning_rate: float = 3e-4  # R, O:CRCKD: OneCycle's peak, stepped every batch
    weight_decay: float = 1e-5  # R (O:CRCKD 5e-4)
    start_epoch: int = 20  # R, O:CRCKD: of the teacher's terms
    ramp_epochs: int = 30  # R, O:CRCKD: of the consistency weight
    ema: float = 0.99  # R, O:CRCKD
    report_epochs: int = 10  # R (O:CRCKD says 10 and averages 11)
    weights: str = "imagenet"  # R: imagenet, none, or a file
    ce_normalise: str = "weights"  # P; R's is "batch"
    freeze_bn_after_first_eval: bool = False  # R does so, by never going back to training mode
    imbalance: str = "power"  # S: how rho is reached; the other is "truncate"
    precision: str = "auto"  # S: auto is bf16 on a GPU and fp32 on a CPU
    compile: bool = False  # S: backbones by torch.compile, whose sums are rounded otherwise
    threads: int = 0  # S: CPU threads of one run; 0 takes the machine's
    n_images: int = 10015  # S: of a synthetic stand-in; as many as HAM10000 has
    validation: str = "none"  # S: a share of the training fold, or "own", the val that the data bring

    def __post_init__(self) -> None:
        def check(name: str, ok: bool, rule: str) -> None:
            if not ok:
                raise UserError(f"invalid {name}={getattr(self, name)!r}: {rule}.")

        for name in ("image_size", "batch_size", "epochs", "report_epochs", "n_images"):
            check(name, 1 <= getattr(self, name) <= 10**6, "it is a count of at least 1, and at most 1000000")
        for name, most in (("start_epoch", 10**6), ("ramp_epochs", 10**6), ("threads", 1024)):
            check(name, 0 <= getattr(self, name) <= most, f"it is a count of at least 0, and at most {most}")
        check("batch_size", self.batch_size > 1, "batch statistics need two images or more")
        check("learning_rate", self.learning_rate > 0, "it is a positive step size")
        check("weight_decay", self.weight_decay >= 0, "it is at least 0")
        check("rotation", 0 <= self.rotation <= 180, "it is an angle in degrees, 0 to 180")
        check("translation", 0 <= self.translation <= 1, "it is a share of the side, 0 to 1")
        check("flip", 0 <= self.flip <= 1, "it is a probability")
        check("augment", self.augment in AUGMENTS, f"it is one of {', '.join(AUGMENTS)}")
        check("ema", 0 <= self.ema < 1, "it is a share in [0, 1)")
        check("ce_normalise", self.ce_normalise in ("weights", "batch"), "it is one of weights, batch")
        check("imbalance", self.imbalance in ("power", "truncate"), "it is one of power, truncate")
        check("precision", self.precision in ("auto", "fp32", "bf16"), "it is one of auto, fp32, bf16")
        is_share = re.fullmatch(r"0\.\d+", self.validation) and float(self.validation) <= 0.5
        rule = "it is a share of the training fold, 0.5 at most, or one of none, own"
        check("validation", self.validation in ("none", "own") or bool(is_share), rule)

    def with_overrides(self, overrides: Overrides) -> Protocol:
        """Replace fields by name. Raises UserError when a value is invalid."""
        values: dict[str, Any] = {key: self.parse_value(key, value) for key, value in overrides}
        return replace(self, **values) if values else self

    @classmethod
    @cache
    def list_names(cls) -> tuple[str, ...]:
        """List the fields that ``--set`` may name."""
        return tuple(f.name for f in fields(cls))

    @classmethod
    def parse_value(cls, key: str, value: Scalar) -> Scalar:
        """Convert ``value`` to the type of the field ``key``. Raises UserError when that fails."""
        if key not in cls.list_names():
            raise UserError(f"the protocol has no number {key!r}; a newer udcd-bench may have it.")
        default: Scalar = getattr(cls, key)
        if key == "weights":
            if not str(value):
                raise UserError("weights= names nothing; give none, imagenet or the path of a file.")
            if str(value).lower() in ("none", "imagenet"):
                return str(value).lower()
        if key == "validation":
            return _parse_validation(value)
        return coerce_value(key, value, default)

    def compute_stage_epochs(self, share: float) -> int:
        """Compute the epochs of a stage that takes this share of all."""
        return max(1, round(share * self.epochs))

    def with_epochs(self, epochs: int) -> Protocol:
        """Return the protocol in so many epochs: start at a quarter, ramp over 3/8, report the last eighth."""
        return replace(
            self,
            epochs=epochs,
            start_epoch=max(1, epochs // 4),
            ramp_epochs=max(1, 3 * epochs // 8),
            report_epochs=max(1, epochs // 8),
        )


def _parse_validation(value: Scalar) -> str:
    """Parse ``Protocol.validation``; 0.2, 0.20 and .2 are one share, and would be three texts."""
    text = str(value).lower()
    with contextlib.suppress(ValueError):
        return f"{float(text):g}" if float(text) else "none"
    return text


@dataclass(frozen=True)
class Profile:
    """A protocol with its backbone and data sets.

    datasets, backbones: (the paper's name, this profile's name) of each.
    """

    name: str
    description: str
    protocol: Protocol
    backbone: str
    datasets: tuple[tuple[str, str], ...]
    backbones: tuple[tuple[str, str], ...] = ()

    def resolve_dataset(self, paper_name: str) -> str:
        """Return the source this profile trains on in place of the paper's."""
        return dict(self.datasets).get(paper_name, paper_name)

    def resolve_backbone(self, paper_name: str) -> str:
        """Return the backbone this profile trains in place of the paper's."""
        return dict(self.backbones).get(paper_name, paper_name)


_PAPER = Protocol()
_REAL_SOURCES = (("aptos", "aptos"), ("ham10000", "ham10000"))
_SYNTHETIC_SOURCES = (("aptos", "synthetic-fundus"), ("ham10000", "synthetic-lesions"))
_TINY_BACKBONES = (
    ("densenet121", TINY_DENSENET),
    ("resnet50", "resnet-tiny"),
    ("efficientnet_b0", "efficientnet-tiny"),
    ("mobilenetv2_100", "mobilenet-tiny"),
    ("tf_efficientnet_lite0", "efficientnet-tiny"),
)
_DEMO = replace(
    _PAPER.with_epochs(16),
    image_size=48,
    batch_size=32,
    learning_rate=5e-3,
    weights="none",
    threads=1,
    n_images=1000,
)

PROFILES = {
    "demo": Profile(
        "demo",
        "two synthetic stand-ins, minutes on two cores, no data, no network, no GPU",
        _DEMO,
        TINY_DENSENET,
        _SYNTHETIC_SOURCES,
        _TINY_BACKBONES,
    ),
    "quick": Profile(
        "quick",
        "the real data at 128², a quarter of the epochs",
        replace(_PAPER.with_epochs(20), image_size=128),
        "densenet121",
        _REAL_SOURCES,
    ),
    "lite": Profile(
        "lite",
        "the real data at 64², an eighth of the epochs, hours on two cores",
        # S: 64² is the least at which this backbone's last map is 2×2, and relations in it are relations; one thread,
        # so that figures do not depend on how many cores a machine has
        replace(_PAPER.with_epochs(10), image_size=64, threads=1),
        # S: of the backbones with ImageNet weights the one whose step costs two cores the least
        "tf_efficientnet_lite0",
        _REAL_SOURCES,
    ),
    "paper": Profile("paper", "the paper's protocol", _PAPER, "densenet121", _REAL_SOURCES),
}

# a mirrored digit is another shape, and 800 small images need more epochs
_SOURCE_OVERRIDES: dict[tuple[str, str], dict[str, Any]] = {
    ("demo", "digits"): {"image_size": 32, "flip": 0.0, "epochs": 40},
}


def find_profile(name: str) -> Profile:
    """Find a profile by name. Raises UserError that names the nearest when there is none."""
    if name not in PROFILES:
        raise UserError(f"There is no profile {name!r}{suggest_nearest(name, PROFILES)}")
    return PROFILES[name]


def build_protocol(
    profile_name: str,
    dataset: str,
    overrides: Overrides = (),
    method_protocol: Mapping[str, Scalar] | None = None,
) -> Protocol:
    """Build the protocol of a run of this profile on this source.

    method_protocol: numbers that are the method's own; ``overrides`` replace them.
    """
    values = (
        _SOURCE_OVERRIDES.get((profile_name, dataset), {}) | dict(method_protocol or {}) | dict(overrides)
    )
    # as texts, which is how each is read: 1, 1.0 and True are equal, and not all of them may be valid
    texts = tuple((name, str(value)) for name, value in values.items())
    return _override(find_profile(profile_name).protocol, texts)


@lru_cache(1024)
def _override(base: Protocol, overrides: tuple[tuple[str, str], ...]) -> Protocol:
    """Override a profile's numbers, once for all runs that have them: a table asks for its runs many times."""
    values = dict(overrides)
    if "epochs" in values:
        base = base.with_epochs(int(Protocol.parse_value("epochs", values["epochs"])))
    return base.with_overrides(overrides)


def split_overrides(settings: Overrides) -> tuple[Overrides, Overrides]:
    """Split overrides into those of the protocol and those of a method's hyper-parameters."""
    names = Protocol.list_names()
    return tuple(s for s in settings if s[0] in names), tuple(s for s in settings if s[0] not in names)


def suggest_setting(word: str, hparams: Iterable[str]) -> str:
    """Make the end of a sentence about a name that is neither a hyper-parameter nor a number of the protocol.

    hparams: the hyper-parameters that would do, all of which it names; of the protocol's numbers the nearest.
    """
    own, numbers = list(dict.fromkeys(hparams)), Protocol.list_names()

    def measure_nearness(name: str) -> float:
        if word.lower() == "".join(part[:1] for part in name.split("_")):
            return 1.0  # lr, bs, wd
        return difflib.SequenceMatcher(None, word.lower(), name).ratio()

    nearest = max([*own, *numbers], key=measure_nearness)
    hint = f"; did you mean {nearest!r}?" if measure_nearness(nearest) >= 0.5 else "."
    known = f"Hyper-parameters: {', '.join(own)}. Numbers" if own else "Numbers"
    shown = sorted(sorted(numbers), key=measure_nearness, reverse=True)[:MOST_SUGGESTED]
    more = f" and {len(numbers) - len(shown)} more" if len(numbers) > len(shown) else ""
    too = " too" if own else ""
    return f"{hint} {known} of the protocol can be set{too}, the nearest first: {', '.join(shown)}{more}."


def coerce_value(key: str, value: Scalar, default: Scalar) -> Scalar:
    """Convert ``value``, often text from the command line, to the type of ``default``.

    Raises UserError that names the key, the value and the type.
    """
    kind = type(default)
    text = str(value)
    if kind is bool:
        choices = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
        if text.lower() in choices:
            return choices[text.lower()]
    elif kind is str:
        return text
    elif text.isascii() and "_" not in text:  # Python reads 1_0 as ten, and people may not
        with contextlib.suppress(ValueError, OverflowError):
            number = kind(text)
            if math.isfinite(float(number)):
                return number
    raise UserError(f"invalid {key}={text}: {key} is of type {kind.__name__}, such as {default!r}.")


def resolve_hparams(
    method_title: str,
    defaults: Mapping[str, Scalar],
    choices: Mapping[str, Sequence[Scalar]],
    overrides: Overrides,
) -> dict[str, Scalar]:
    """Apply overrides to a method's hyper-parameters.

    choices: name → allowed values. Raises UserError when a name is unknown or a value is invalid.
    """
    values = dict(defaults)
    for key, value in overrides:
        if key not in values:
            raise UserError(f"{method_title} has no hyper-parameter {key!r}{suggest_setting(key, values)}")
        values[key] = coerce_value(key, value, defaults[key])
        if key in choices and values[key] not in choices[key]:
            raise UserError(f"invalid {key}={value}: it is one of {', '.join(map(str, choices[key]))}.")
    return values
