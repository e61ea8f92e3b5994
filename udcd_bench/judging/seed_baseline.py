"""Earlier results of one's own: figures seed by seed in a file, one set for each device; and CSVs of tables."""

from __future__ import annotations

import itertools
import json
import warnings
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from udcd_bench.errors import UserError
from udcd_bench.grid.cells import format_heading
from udcd_bench.judging.verdicts import get_cell_key
from udcd_bench.render.csv_text import skip_command
from udcd_bench.runs.names import format_data_title, identify_data, identify_teacher
from udcd_bench.runs.spec import identify_value
from udcd_bench.storage.atomic import write_atomically

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable
    from pathlib import Path

    import pandas as pd

    from udcd_bench.grid.cells import TableRequest
    from udcd_bench.grid.grid import Grid
    from udcd_bench.judging.uncertainty import CellKey
    from udcd_bench.runs.results import Results

FORMAT_VERSION = 1
FILE_KIND = "udcd-bench figures by seed"

RowKey = tuple[str, float | None, str]
"""Data set, imbalance as shown, method."""
REQUIRED_COLUMNS = ("dataset", "rho", "method", "metric", "ours", "split_hash")
"""Columns that the CSV of an earlier result must have."""
COMPARED_COLUMNS = ("profile", "backbone", "rule")
"""Columns of settings that must agree, where the CSV has them."""
ENVIRONMENT_KEYS = ("udcd_bench", "torch", "timm", "python", "precision", "threads")


@dataclass(frozen=True)
class SeedResult:
    """Figures of a run in percent, and the hash of its split."""

    split_hash: str
    percent: Mapping[str, float]


@dataclass(frozen=True)
class SeedBaseline:
    """The figures of one device: each row's runs by (fold, seed), the rows' headings, and the versions used."""

    rows: dict[RowKey, dict[tuple[int, int], SeedResult]] = field(default_factory=dict)
    titles: dict[RowKey, str] = field(default_factory=dict)
    versions: dict[str, list[str]] = field(default_factory=dict)

    def rename_data(self, names: Mapping[str, str]) -> SeedBaseline:
        """Return the figures with the data sets called otherwise."""
        return replace(self, rows={(names[row[0]], *row[1:]): runs for row, runs in self.rows.items()})

    def count_fewest_seeds(self) -> int:
        """Return the least number of seeds that a row has of a fold."""
        counts = [Counter(fold for fold, _ in runs) for runs in self.rows.values()]
        return min(n for count in counts for n in count.values())

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values; ``from_dict`` reads them back."""
        rows = [
            {
                **dict(zip(("dataset", "rho", "method"), row)),
                "dataset_title": self.titles[row],
                "n": len(runs),
                "runs": [
                    {"fold": fold, "seed": seed, "split_hash": run.split_hash, "percent": dict(run.percent)}
                    for (fold, seed), run in sorted(runs.items())
                ],
            }
            for row, runs in self.rows.items()
        ]
        return {"versions": dict(self.versions), "rows": rows}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> SeedBaseline:
        """Read what ``to_dict`` wrote.

        Raises KeyError, TypeError, ValueError or AttributeError for anything else.
        """
        rows: dict[RowKey, dict[tuple[int, int], SeedResult]] = {}
        titles = {}
        for row in data["rows"]:
            rho = None if row["rho"] is None else float(row["rho"])
            key = (str(row["dataset"]), rho, str(row["method"]))
            titles[key] = str(row["dataset_title"])
            for run in row["runs"]:
                percent = {str(metric): float(value) for metric, value in run["percent"].items()}
                if not all(abs(value) <= 1e6 for value in percent.values()):
                    raise ValueError("a figure is no percentage")
                result = SeedResult(str(run["split_hash"]), percent)
                rows.setdefault(key, {})[int(run["fold"]), int(run["seed"])] = result
        return cls(rows, titles, dict(data["versions"]))


def describe_settings(table: Grid, request: TableRequest) -> dict[str, Any]:
    """Return the settings that must agree for two results to compare."""
    return {
        "table": table.name,
        "profile": request.profile,
        "split": request.split,
        "reporting": request.rule,
        "backbone": request.backbone or "",
        "teacher_backbone": request.teacher_backbone,
        **({"teacher": identify_teacher(request.teacher)} if request.teacher else {}),
        "set": {
            key: identify_value(key, value) for key, value in sorted((*request.protocol, *request.hparams))
        },
    }


def collect_by_device(table: Grid, request: TableRequest, results: Results) -> dict[str, SeedBaseline]:
    """Collect the figures of a table's finished runs, by the device that trained them."""
    baselines: dict[str, SeedBaseline] = {}
    for group, row in itertools.product(table.list_column_groups(request), table.list_rows(request)):
        key = (group.name, group.shown_rho, row.name)
        for spec, record in results.select_records(table.list_cell_runs(request, row, group)).items():
            baseline = baselines.setdefault(str(record["environment"]["device"]), SeedBaseline())
            values = record["figures"][request.rule]
            percent = {m: round(100 * values[m], 6) for m in table.metrics if m in values}
            run = SeedResult(record["split_hash"], percent)
            baseline.rows.setdefault(key, {})[spec.fold, spec.seed] = run
            baseline.titles[key] = format_heading(group)
            for name in ENVIRONMENT_KEYS:
                seen = baseline.versions.setdefault(name, [])
                version = str(record["environment"].get(name, ""))
                seen += [version] * (version not in seen)
    return baselines


def save_baselines(file: Path, settings: Mapping[str, Any], baselines: Mapping[str, SeedBaseline]) -> None:
    """Write these devices' figures to the file, in place of what it has of these rows; other rows and devices stay.

    Raises UserError when the file is something else, or was made with other settings.
    """
    earlier = load_baselines(file, settings) if file.exists() else {}
    joined = {device: _join(earlier.get(device, SeedBaseline()), new) for device, new in baselines.items()}
    devices = {device: baseline.to_dict() for device, baseline in {**earlier, **joined}.items()}
    whole = {"kind": FILE_KIND, "version": FORMAT_VERSION, "settings": dict(settings), "devices": devices}
    text = json.dumps(whole, indent=1, ensure_ascii=False, allow_nan=False)
    write_atomically(file, f"{text}\n".encode())


def _join(earlier: SeedBaseline, new: SeedBaseline) -> SeedBaseline:
    """Join two sets of rows of one device; a new row replaces the earlier one, whatever its data set was called."""
    replaced = {(identify_data(row[0]), *row[1:]) for row in new.rows}
    others = {
        row: runs for row, runs in earlier.rows.items() if (identify_data(row[0]), *row[1:]) not in replaced
    }
    before = earlier.versions if others else {}
    versions = {
        name: list(dict.fromkeys((*before.get(name, ()), *new.versions.get(name, ()))))
        for name in {**before, **new.versions}
    }
    return SeedBaseline({**others, **new.rows}, {**earlier.titles, **new.titles}, versions)


def is_baseline_file(file: Path) -> bool:
    """Tell whether a file looks like JSON, and so is no CSV."""
    try:
        with file.open("rb") as opened:
            return opened.read(64).lstrip()[:1] == b"{"
    except OSError:
        return False


def load_baselines(file: Path, settings: Mapping[str, Any]) -> dict[str, SeedBaseline]:
    """Load figures by device.

    Raises UserError when the file has none, is newer than this version, or was made with other settings.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        if content["kind"] != FILE_KIND:
            raise ValueError(f"it is not of the kind {FILE_KIND!r}")
        newer = int(content["version"]) > FORMAT_VERSION
        stored = dict(content["settings"])
        devices = {} if newer else {d: SeedBaseline.from_dict(b) for d, b in content["devices"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise UserError(
            f"{file}: it cannot be read as figures by seed ({error!r}); --record writes such a file."
        ) from error
    if newer:
        raise UserError(f"{file} was written by a newer udcd-bench; upgrade.")
    for name, value in settings.items():
        if stored.get(name) != value:
            raise UserError(
                f"{file} was made with {name} {stored.get(name)!r} and this is {value!r}, so they do not compare."
            )
    return devices


# --- a CSV that an earlier start wrote ---------------------------------------------------------------------------


def match_names(theirs: Iterable[str], frame: pd.DataFrame) -> dict[str, str]:
    """Match the data sets of an earlier result with ours: own images by what they hold, whatever they were called."""
    ours = {identify_data(name): name for name in frame["dataset"]}
    return {name: ours.get(identify_data(name), name) for name in theirs}


def read_earlier_result(file: Path, frame: pd.DataFrame) -> dict[CellKey, float]:
    """Read an earlier result's figures, percent.

    frame: ours. Raises UserError for a file that is no earlier result, and where the test images differ.
    """
    earlier = _read_earlier_csv(file)
    names = match_names(earlier["dataset"].astype(str), frame)
    earlier["dataset"] = earlier["dataset"].astype(str).map(names)
    ours_by_cell = {get_cell_key(row): row for row in frame[frame["n"] > 0].to_dict("records")}
    hashes = {key: row["split_hash"] for key, row in ours_by_cell.items()}
    figures: dict[CellKey, float] = {}
    for row in earlier[earlier["ours"].notna()].to_dict("records"):
        key = get_cell_key(row)
        if key in figures:
            raise UserError(f"--against {file}: {row['method']} {row['metric']} appears twice.")
        _check_same_settings(file, row, ours_by_cell.get(key, {}))
        now = hashes.get(key, row["split_hash"])
        if now != row["split_hash"]:
            raise UserError(
                f"--against {file}: {row['method']} on {format_data_title(row['dataset'])} was tested on other images "
                f"there (split hash {row['split_hash']}, here {now}), so the figures do not compare; choose the same "
                "--folds and --split."
            )
        figures[key] = row["ours"]
    return figures


def _check_same_settings(file: Path, theirs: Mapping[Hashable, Any], ours: Mapping[Hashable, Any]) -> None:
    """Check that a cell was made under the same settings, as far as the file says. Raises UserError when it was not."""
    for name in COMPARED_COLUMNS:
        if ours and isinstance(theirs.get(name), str) and theirs[name] != ours[name]:
            raise UserError(
                f"--against {file}: {theirs['method']} was made with {name} {theirs[name]!r} there and {ours[name]!r} "
                f"here, so the figures do not compare; choose the same {name}."
            )


def _read_earlier_csv(file: Path) -> pd.DataFrame:
    import numpy as np
    import pandas as pd

    try:
        # opened here: pandas would unpack archives, and fetch what looks like an address
        with file.open(encoding="utf-8", newline="") as opened, warnings.catch_warnings(action="error"):
            types = {"split_hash": str, "dataset": str, "method": str, "metric": str}
            frame = pd.read_csv(skip_command(opened), dtype=types, index_col=False, low_memory=False)
    except (OSError, ValueError, OverflowError, Warning) as error:
        reason = str(error).partition("\n")[0]
        raise UserError(f"--against {file}: it cannot be read as an earlier result ({reason}).") from error
    if missing := [name for name in REQUIRED_COLUMNS if name not in frame]:
        raise UserError(
            f"--against {file}: it has no column {missing[0]!r}; give a CSV that udcd-bench run has written, as it is."
        )
    try:
        frame = frame.astype({"rho": float, "ours": float})
    except (ValueError, OverflowError) as error:
        raise UserError(f"--against {file}: a figure in it is no number ({error}).") from error
    if np.isinf(frame[["rho", "ours"]]).any(axis=None):
        raise UserError(f"--against {file}: a figure in it is infinite.")
    if not frame.empty and (frame["ours"].dropna().abs() <= 1).all() and frame["ours"].notna().any():
        raise UserError(
            f"--against {file}: its figures look like fractions; give them in percent, as run writes them."
        )
    return frame.dropna(subset=["dataset", "method", "metric"])
