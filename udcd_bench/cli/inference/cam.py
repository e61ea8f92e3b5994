"""``udcd-bench plot cam``: where a run's network sees the classes of an image."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from udcd_bench.cli import options
from udcd_bench.cli.inference.predict import device_option
from udcd_bench.cli.options import PATH_TYPE, make_option
from udcd_bench.errors import UserError


@click.command()
@click.argument("run")
@click.argument("paths", nargs=-1, type=PATH_TYPE)
@make_option(
    "--worst", default=8, show_default=True, type=click.IntRange(1, 64), help="How many, without PATHS."
)
@make_option(
    "--to",
    "file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The PNG or PDF file.  [default: cam-KEY.png here]",
)
@options.data
@options.out
@device_option
def cam(run: str, paths: tuple[Path, ...], **params: Any) -> None:
    """Draw the Grad-CAM of RUN's network on image files, or on the test images it confused worst.

    RUN is a run's key or its beginning, or its label or the first words of it, as status prints them.
    The test images are taken from --data. The picture shows patients' images: it is written here or where --to says,
    never into a results folder.
    """
    from udcd_bench.artefacts.captions import format_warning
    from udcd_bench.inference import cam as gradcam
    from udcd_bench.inference.cam_page import draw_page
    from udcd_bench.inference.selection import find_run, open_store
    from udcd_bench.inference.stored_run import StoredRun
    from udcd_bench.storage.atomic import write_atomically

    gradcam.check_installed()
    store = open_store(params["out"])
    stored = StoredRun(store, find_run(store, run), params["device"])
    file = params["file"] or Path(f"cam-{stored.key}.png")
    _check_target(file)
    _ = stored.network  # whatever is wrong with it is told before any image is read
    if paths:
        images = gradcam.read_images(stored, paths)
    else:
        images = gradcam.choose_worst(stored, params["data"], params["worst"])
    warning = format_warning([stored.spec.dataset] if stored.record["synthetic"] else [])
    picture = draw_page(stored, images, gradcam.explain(stored, images), warning, file.suffix.lower())
    if file.exists():
        click.echo(f"{file} is replaced; --to FILE keeps both.", err=True)
    write_atomically(file, picture)
    click.echo(file)


def _check_target(file: Path) -> None:
    """Raise UserError for a file of another kind, or in a results folder: those are published, patients are not."""
    if file.suffix.lower() not in (".png", ".pdf"):
        raise UserError(f"{file}: give a file that ends in .png or .pdf.")
    for folder in file.absolute().parents:
        if (folder / "store.json").exists():
            raise UserError(
                f"{file} lies in the results folder {folder}, which may be published, and images of patients may not; "
                "give another file with --to."
            )


class PlotCommand(click.Command):
    """The command ``plot``, whose ``plot cam`` is of one run and so has other options than the figures of a grid."""

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        """Parse the words after ``plot``."""
        if args[:1] == ["cam"]:
            return cam.make_context(f"{info_name} cam", args[1:], parent=parent, **extra)
        return super().make_context(info_name, args, parent=parent, **extra)
