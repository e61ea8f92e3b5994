"""The paper's sentences as claims about columns of figures; ``tables/claims.toml`` holds and explains them."""

from __future__ import annotations

import math
import tomllib
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

from udcd_bench import plugins
from udcd_bench.errors import UserError, suggest_nearest
from udcd_bench.grid.cells import parse_row_method, parse_row_settings
from udcd_bench.paper import rounded
from udcd_bench.runs import planner, profiles
from udcd_bench.runs.spec import RunSpec
from udcd_bench.stats.metrics import METRICS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

CLAIM_KINDS = {
    "best": (),
    "above": (),
    "gain-within": ("low", "high"),
    "gain-reaches": ("value",),
}
"""Kind → the numbers it needs."""


@dataclass(frozen=True)
class Claim:
    """A sentence and what it claims; the fields are those of claims.toml, which explains them."""

    name: str
    quote: str
    where: str
    reading: str
    kind: str
    metrics: tuple[str, ...]
    subject: str
    tables: tuple[str, ...] = ()
    dataset: str = ""
    others: tuple[str, ...] = ()
    fractions: tuple[float, ...] = ()
    backbones: tuple[str, ...] = ()
    low: float = math.nan
    high: float = math.nan
    value: float = math.nan
    over: str = "nearest"


@dataclass(frozen=True)
class ClaimColumn:
    """One figure of the subject and those it is compared with. table: where the paper prints them, if it does."""

    where: str
    metric: str
    table: str
    dataset: str
    rho: float | None
    rows: tuple[str, ...]
    specs: Mapping[str, RunSpec]


def find_claims_file() -> Path:
    """The suite's claims."""
    return plugins.find_root() / "tables" / "claims.toml"


def load_claims(file: Path) -> tuple[Claim, ...]:
    """The claims in a file. Raises UserError naming the file, the claim and what does not fit."""
    try:
        found = tomllib.loads(file.read_text(encoding="utf-8"))
        subject, entries = found["subject"], found["claim"]
        if not isinstance(subject, str) or not all(isinstance(entry, dict) for entry in entries):
            raise TypeError("they are something else")
        return tuple(_parse_claim(f"{file}, claim {i}", subject, entry) for i, entry in enumerate(entries, 1))
    except (OSError, ValueError, RecursionError) as error:  # of TOML, or of a number with thousands of digits
        raise UserError(f"{file} cannot be read as claims: {error}") from error
    except (KeyError, TypeError) as error:
        raise UserError(f"{file}: it wants a subject and a list of claims, [[claim]] ({error}).") from error


def _parse_claim(location: str, subject: str, entry: dict[str, Any]) -> Claim:
    known = {f.name: f for f in fields(Claim)}
    for key in entry:
        if key not in known or key == "subject":
            raise UserError(f"{location}: there is no field {key!r}{suggest_nearest(key, known)}")
    kind = str(entry.get("kind", ""))
    if kind not in CLAIM_KINDS:
        raise UserError(f"{location}: there is no kind {kind!r}{suggest_nearest(kind, CLAIM_KINDS)}")
    needed = ("name", "quote", "where", "reading", "metrics", *CLAIM_KINDS[kind])
    if missing := [key for key in needed if key not in entry]:
        raise UserError(f"{location}: {missing[0]!r} is missing, and {kind} needs it.")
    if ("tables" in entry) == ("dataset" in entry) or ("dataset" in entry) != ("others" in entry):
        raise UserError(f"{location}: give either tables, or a dataset with others.")
    values: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in entry.items()
    }
    for key, value in values.items():
        like = str(known[key].type)
        parts = value if isinstance(value, tuple) else (value,)
        kinds = (str,) if "str" in like else (int, float)
        if isinstance(value, tuple) != ("tuple" in like) or {type(part) for part in parts} - set(kinds):
            wanted = f"{'a list of ' if 'tuple' in like else ''}{'text' if str in kinds else 'numbers'}"
            raise UserError(f"{location}, {key}: {value!r} will not do; give {wanted}.")
    for metric in values["metrics"]:
        if metric not in METRICS:
            raise UserError(
                f"{location}: there is no metric {metric!r}{suggest_nearest(str(metric), METRICS)}"
            )
    if values.get("over", "nearest") not in ("nearest", "any"):
        raise UserError(f"{location}: over is nearest or any, not {values['over']!r}.")
    return Claim(subject=subject, **values)


def list_claim_columns(claim: Claim, profile: str) -> list[ClaimColumn]:
    """The columns a claim speaks of, in order, and the runs of ours that would fill them."""
    own = rounded.find_own_rhos()
    found = []
    for name in claim.tables:
        table = plugins.read_attributes("tables", name)
        for dataset in table["datasets"]:
            for rho in table.get("rhos", (None,)):
                shown = table.get("own_rho") if rho is None else rho
                where = f"{dataset} ρ={shown:g}" if shown is not None else dataset
                rows = tuple(table["rows"])
                specs = _make_specs(
                    rows, RunSpec("", dataset, profile, profiles.find_profile(profile).backbone, rho=rho)
                )
                found += [ClaimColumn(where, m, name, dataset, shown, rows, specs) for m in claim.metrics]
    for backbone in claim.backbones or ((profiles.find_profile(profile).backbone,) if claim.dataset else ()):
        for fraction in claim.fractions or (1.0,):
            where = claim.dataset + (f" {backbone}" if claim.backbones else "")
            where += f" {fraction:.0%}" if claim.fractions else ""
            rows = (claim.subject, *claim.others)
            specs = _make_specs(rows, RunSpec("", claim.dataset, profile, backbone, fraction=fraction))
            found += [
                ClaimColumn(where, m, "", claim.dataset, own.get(claim.dataset), rows, specs)
                for m in claim.metrics
            ]
    return found


def _make_specs(rows: Iterable[str], template: RunSpec) -> dict[str, RunSpec]:
    """The runs behind rows such as ``crckd`` or ``udcd:lambda_kl=0``; those of the suite's methods."""
    found = {}
    for row in rows:
        if (method := parse_row_method(row)) in plugins.list_names("methods"):
            protocol, hparams = profiles.split_overrides(parse_row_settings(row))
            found[row] = planner.normalize_spec(
                replace(template, method=method, hparams=hparams, protocol=protocol)
            )
    return found
