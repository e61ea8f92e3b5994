"""What is known of one run, finished or not: its state, why it failed and where, and the command that repeats it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from udcd_bench import plugins
from udcd_bench.data.own_images import list_own_images
from udcd_bench.errors import UserError, format_count
from udcd_bench.inference.selection import find_summaries
from udcd_bench.runs import names, planner
from udcd_bench.runs.spec import RunSpec

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from udcd_bench.runs.store import RunSummary, Store

_FRAME = re.compile(r'  File "(?P<file>.*)", line (?P<line>\d+), in (?P<function>.*)')
_CHAIN = re.compile(
    r"\n\n(?:The above exception was the direct cause of|During handling of the above exception)[^\n]*\n\n"
)
MOST_FRAMES = 3


class Frame(NamedTuple):
    """A frame of a stored traceback: its file, its line, its function and the source that stands there."""

    file: str
    line: str
    function: str
    source: str

    def format(self) -> list[str]:
        """Format the frame in two lines at most."""
        where = f"{self.file}, line {self.line}, in {self.function}"
        return [where, *([f"    {self.source}"] if self.source else [])]


def describe_run(store: Store, typed: str, data: Path) -> list[str]:
    """Describe the run that a key or a label means, or the beginning of one. data: the folder of prepared data.

    Of several with one label it is the newest, and the others are listed. Raises UserError when none or several are
    meant.
    """
    summary, *older = find_summaries(store, typed)
    report = store.read_failure(summary.key) if summary.state == "failed" else None
    spec = _read_spec(store, summary, report)
    lines = [summary.label or "a run whose label cannot be read"]
    lines += _label("key", [summary.key]) + _label("state", [summary.state])
    lines += _label("older", _list_older(older))
    lines += _label("reason" if report else "remark", summary.remark.splitlines() if summary.remark else [])
    if report and spec is not None:
        lines += _label("traceback", _trim_traceback(str(report.get("traceback", "")), spec.method))
    is_finished = summary.state in ("done", "damaged")
    path = store.run_folder(summary.key) if is_finished else store.work_folder(summary.key)
    lines += _label("stored in", [str(store.failure_path(summary.key) if report else path)])
    command = str(report.get("command", "")) if report else ""
    if spec is not None and not command:
        command = _format_command(spec, store, data)
    return lines + _label("command", [command] if command else [])


def _list_older(older: Sequence[RunSummary]) -> list[str]:
    """List the runs that have the label too, with how one of them is named; nothing where there is none."""
    if not older:
        return []
    head = f"{format_count(len(older), 'run')} of this label too; to see one, give its key:"
    return [head, *(f"{each.key} {each.state}" for each in older)]


def _label(label: str, texts: Sequence[str]) -> list[str]:
    """Put a label before the first of these lines and indent the others."""
    return [f"{label if number == 0 else '':10} {text}" for number, text in enumerate(texts)]


def _read_spec(store: Store, summary: RunSummary, report: dict[str, Any] | None) -> RunSpec | None:
    if report:
        return RunSpec.from_dict(report["spec"])
    if summary.state == "done":
        return RunSpec.from_dict(store.read_record(summary.key)["spec"])
    return store.read_running_spec(summary.key)


def _format_command(spec: RunSpec, store: Store, data: Path) -> str:
    locations = {names.identify_data(images.name): images.path for images in list_own_images(data)}
    return planner.format_command(spec, planner.CommandPlaces(data, store.root, locations=locations))


# --- tracebacks -----------------------------------------------------------------------------------------------


def _trim_traceback(text: str, method: str) -> list[str]:
    """Trim a stored traceback: the frames of the method's files first, then where it was raised, and the error."""
    if not text.strip():
        return []
    blocks = _CHAIN.split(text)
    files = _list_files(method)
    block = next((b for b in blocks if any(_is_own(f, files, method) for f in _parse_frames(b))), blocks[-1])
    frames = list(_parse_frames(block))
    own = [frame for frame in frames if _is_own(frame, files, method)][-MOST_FRAMES:]
    shown = own or frames[-MOST_FRAMES:]
    lines = [line for frame in shown for line in frame.format()]
    if own and frames[-1] != own[-1]:
        lines += ["raised in", *frames[-1].format()]
    left_out = len(frames) - len({*shown, frames[-1]}) if frames else 0
    error = [line for line in block.strip().splitlines() if not line.startswith((" ", "Traceback "))]
    return [
        *lines,
        *error,
        *([f"({left_out} frames of the engine and of libraries are left out)"] * bool(left_out)),
    ]


def _list_files(method: str) -> Collection[str]:
    try:
        return plugins.list_source_files("methods", method)
    except UserError:  # it is in no suite here, or broken by now
        return ()


def _is_own(frame: Frame, files: Collection[str], method: str) -> bool:
    return frame.file in files or Path(frame.file).name == f"{method}.py"


def _parse_frames(block: str) -> Iterator[Frame]:
    lines = block.splitlines()
    for number, line in enumerate(lines):
        if match := _FRAME.fullmatch(line):
            following = lines[number + 1] if number + 1 < len(lines) else ""
            source = following.strip() if following.startswith("    ") else ""
            yield Frame(match["file"], match["line"], match["function"], source)
