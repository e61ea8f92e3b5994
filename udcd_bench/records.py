"""What a run's record must say before anything is made of it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from udcd_bench.spec import verify

if TYPE_CHECKING:
    from collections.abc import Mapping

_KINDS: dict[str, type] = {
    **dict.fromkeys(("dataset_title", "incomplete", "split_hash", "reporting"), str),
    **dict.fromkeys(("n_train", "n_test", "epochs"), int),
    **dict.fromkeys(("synthetic", "ordered"), bool),
    **dict.fromkeys(("environment", "files", "figures"), dict),
}


def check(record: Mapping[str, Any]) -> None:
    """Raises ValueError naming what is missing or of another kind than a finished run's, by whatever hand."""
    try:
        verify(record["spec"])
        for name, kind in _KINDS.items():
            if type(record[name]) is not kind:
                raise ValueError(f"{name} is {record[name]!r:.100}")
        # a rule or a metric may be newer than the run
        for figures in record["figures"].values():
            for name, value in figures.items():
                if not _number(value):
                    raise ValueError(f"figure {name} is {value!r:.100}")
        if {"acc", "rec"} - record["figures"]["mean"].keys() or not _number(record["seconds"]):
            raise ValueError("it has no accuracy, recall or seconds")
        sizes = record.get("bytes", {})
        if (
            any(type(value) is not str for value in record["files"].values())
            or sizes.keys() - record["files"].keys()
        ):
            raise ValueError("its list of files is another's")
        if any(type(value) not in (str, int, bool) for value in record["environment"].values()):
            raise ValueError("its environment is no list of names and versions")
        record["environment"]["device"]
    except KeyError as error:
        raise ValueError(f"it has no {error.args[0]}") from error
    except (TypeError, AttributeError) as error:
        raise ValueError("it is no finished run's") from error


def _number(value: object) -> bool:
    return isinstance(value, int | float) and type(value) is not bool and math.isfinite(value)
