"""``tables/claims.toml``: the paper's sentences as claims about columns of figures."""

from __future__ import annotations

import math
import tomllib
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

from udcd_bench import plugins
from udcd_bench.errors import UserError, suggest_nearest
from udcd_bench.grid.cells import parse_row_method, parse_row_settings
from udcd_bench.grid.grid import PAPER_ROWS
from udcd_bench.paper import rounded
from udcd_bench.runs import planner, profiles
from udcd_bench.runs.spec import RunSpec
from udcd_bench.stats.embeddings import SEPARATION_METRICS
from udcd_bench.stats.metrics import METRICS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

CLAIM_KINDS = {
    "best": ("metrics",),
    "above": ("metrics",),
    "gain-within": ("metrics", "low", "high"),
    "gain-reaches": ("metrics", "value"),
    "printed": ("tables", "columns"),
    "no-experiment": (),
}
"""Kind of a claim → the fields it needs beside those that every claim has."""
CLAIM_METRICS = METRICS | SEPARATION_METRICS
"""What a claim may be about: metrics of tables, and those of an embedding."""
_LIST_FIELDS = ("metrics", "tables", "others", "fractions", "backbones", "columns")
_NUMBER_FIELDS = ("fractions", "low", "high", "value")
"""Fields that hold lists, and those that hold numbers; all others hold one text."""


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
    columns: tuple[str, ...] = ()


@dataclass(frozen=True)
class ClaimColumn:
    """One figure of the subject and those it is compared with.

    label: data set, imbalance, backbone and fraction, for people. table: the one that prints them, empty for none.
    specs: row → the run of ours behind it, fold and seed 0, of the rows that the suite has.
    """

    label: str
    metric: str
    table: str
    dataset: str
    rho: float | None
    rows: tuple[str, ...]
    specs: Mapping[str, RunSpec]


def find_claims_file() -> Path:
    """Return the path of the suite's claims; the file may be absent."""
    return plugins.find_root() / "tables" / "claims.toml"


def load_claims(file: Path) -> tuple[Claim, ...]:
    """Load the claims in a file.

    Raises UserError, naming the file, the claim and the field, when something in it is invalid.
    """
    try:
        content = tomllib.loads(file.read_text(encoding="utf-8"))
        subject, entries = content["subject"], content["claim"]
        if not isinstance(subject, str) or not all(isinstance(entry, dict) for entry in entries):
            raise TypeError("they are something else")
        return tuple(_parse_claim(f"{file}, claim {i}", subject, entry) for i, entry in enumerate(entries, 1))
    except (OSError, ValueError, RecursionError) as error:  # of TOML, or of a number with thousands of digits
        raise UserError(f"{file} cannot be read as claims: {error}") from error
    except (KeyError, TypeError) as error:
        raise UserError(f"{file}: it needs a subject and a list of claims, [[claim]] ({error}).") from error


def _parse_claim(location: str, subject: str, entry: dict[str, Any]) -> Claim:
    known = {f.name: f for f in fields(Claim)}
    for key in entry:
        if key not in known or key == "subject":
            raise UserError(f"{location}: there is no field {key!r}{suggest_nearest(key, known)}")
    kind = str(entry.get("kind", ""))
    if kind not in CLAIM_KINDS:
        raise UserError(f"{location}: there is no kind {kind!r}{suggest_nearest(kind, CLAIM_KINDS)}")
    needed = ("name", "quote", "where", "reading", *CLAIM_KINDS[kind])
    if missing := [key for key in needed if key not in entry]:
        raise UserError(f"{location}: {missing[0]!r} is missing, and {kind} needs it.")
    has_places = ("tables" in entry) != ("dataset" in entry) and ("dataset" in entry) == ("others" in entry)
    if "metrics" in CLAIM_KINDS[kind] and not has_places:
        raise UserError(f"{location}: give either tables, or a dataset with others.")
    values: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in entry.items()
    }
    for key, value in values.items():
        _check_field(f"{location}, {key}", key, value)
    for metric in values.get("metrics", ()):
        if metric not in CLAIM_METRICS:
            raise UserError(
                f"{location}: there is no metric {metric!r}{suggest_nearest(str(metric), CLAIM_METRICS)}"
            )
    if values.get("over", "nearest") not in ("nearest", "any"):
        raise UserError(f"{location}: over is nearest or any, not {values['over']!r}.")
    return Claim(subject=subject, **{"metrics": (), **values})


def _check_field(location: str, name: str, value: Any) -> None:
    """Check that a value is of the kind that the field of a claim holds. Raises UserError when it is not."""
    is_list = name in _LIST_FIELDS
    types = (int, float) if name in _NUMBER_FIELDS else (str,)
    parts = value if isinstance(value, tuple) else (value,)
    if isinstance(value, tuple) != is_list or {type(part) for part in parts} - set(types):
        wanted = f"{'a list of ' if is_list else ''}{'text' if str in types else 'numbers'}"
        raise UserError(f"{location}: invalid value {value!r}; give {wanted}.")


def list_claim_columns(claim: Claim, profile: str) -> list[ClaimColumn]:
    """List the columns that a claim speaks of, in order, and the runs of ours that would fill them."""
    usual = profiles.find_profile(profile).backbone
    columns = [column for table in claim.tables for column in _list_table_columns(claim, table, profile)]
    own_rho = rounded.find_own_rhos().get(claim.dataset)
    for backbone in claim.backbones or ((usual,) if claim.dataset else ()):
        for fraction in claim.fractions or (1.0,):
            label = claim.dataset + (f" {backbone}" if claim.backbones else "")
            label += f" {100 * fraction:g}%" if claim.fractions else ""
            rows = (claim.subject, *claim.others)
            specs = _make_specs(rows, RunSpec("", claim.dataset, profile, backbone, fraction=fraction))
            columns += [
                ClaimColumn(
                    label=label,
                    metric=metric,
                    table="",
                    dataset=claim.dataset,
                    rho=own_rho,
                    rows=rows,
                    specs=specs,
                )
                for metric in claim.metrics
            ]
    return columns


def _list_table_columns(claim: Claim, name: str, profile: str) -> Iterator[ClaimColumn]:
    """List the columns of one of the paper's tables: every data set, imbalance and metric of the claim."""
    table = plugins.read_attributes("tables", name)
    rows = tuple(table.get("rows", PAPER_ROWS))
    backbone = profiles.find_profile(profile).backbone
    for dataset in table["datasets"]:
        for rho in table.get("rhos", (None,)):
            shown = table.get("own_rho") if rho is None else rho
            specs = _make_specs(rows, RunSpec("", dataset, profile, backbone, rho=rho))
            for metric in claim.metrics:
                yield ClaimColumn(
                    label=f"{dataset} ρ={shown:g}" if shown is not None else dataset,
                    metric=metric,
                    table=name,
                    dataset=dataset,
                    rho=shown,
                    rows=rows,
                    specs=specs,
                )


def _make_specs(rows: Iterable[str], template: RunSpec) -> dict[str, RunSpec]:
    """Make the runs behind rows such as ``crckd`` or ``udcd:lambda_kl=0``, of the suite's methods."""
    specs = {}
    for row in rows:
        if (method := parse_row_method(row)) in plugins.list_names("methods"):
            specs[row] = planner.normalize_spec(
                replace(template, method=method, hparams=parse_row_settings(row))
            )
    return specs
