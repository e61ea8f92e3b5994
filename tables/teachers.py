"""A larger trained teacher and a smaller student: what each offline method brings, beside either network alone.

The teacher is the Scratch run of the same fold and seed on the teacher's backbone, or what ``--teacher`` names. Its own
figures stand in the first row, which is left out where several teach, in the second those of the student that nobody
taught. Below the rule stand the suite's other methods: one that trains its own teacher gives it the teacher's backbone,
and all others have the student's alone.

Differs from the paper: it has no such table, and trains one backbone on both sides. The pairs are this suite's choice
(S): ResNet-50 (23.5 million parameters) with MobileNetV2 (2.2), DenseNet-121 (7.0) with EfficientNet-Lite0 (3.4);
``--teacher-backbone`` and ``--backbone`` give others. Profile demo trains small members of the same families instead.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

from udcd_bench.artefacts import table
from udcd_bench.runs import planner

if TYPE_CHECKING:
    from udcd_bench.grid.cells import ColumnGroup, TableRow
    from udcd_bench.runs.spec import RunSpec

TAUGHT = "kd"
"""A method that learns from the teacher, by which its run is known."""


class Table(table.Table):
    """The teacher, the student alone, then the offline methods; ACC, AP, REC and F1 for each pair of backbones."""

    name = "teachers"
    title = "Larger teachers, smaller students"
    datasets = ("aptos",)
    metrics = ("acc", "ap", "rec", "f1")
    pairs = (("resnet50", "mobilenetv2_100"), ("densenet121", "tf_efficientnet_lite0"))
    references = ("scratch:backbone=teacher",)
    rows: ClassVar = {
        "scratch:backbone=teacher": "The teacher itself",
        "scratch": "The student alone",
        "kd": "KD",
        "rkd": "RKD",
        "crd": "CRD",
        "sskd": "SSKD",
        "ssd-kd": "SSD-KD",
    }

    def list_cell_runs(self, request: table.TableRequest, row: TableRow, group: ColumnGroup) -> list[RunSpec]:
        """List the runs behind one row in one group of columns; behind the first row those that teach, if one does."""
        if row.name not in self.references:
            return super().list_cell_runs(request, row, group)
        taught = super().list_cell_runs(request, replace(row, name=TAUGHT), group)
        alone = [spec for spec in taught if len(planner.list_teachers(spec)) == 1]
        return [teacher for spec in alone for teacher in planner.build_teacher_specs(spec)]

    def list_rows(self, request: table.TableRequest) -> list[TableRow]:
        """List the rows; the teacher's own is left out where it is one run, a file or several, and not a row's run."""
        group = self.list_column_groups(request)[0]
        rows = super().list_rows(request)
        return [r for r in rows if r.name not in self.references or self.list_cell_runs(request, r, group)]

    def describe(self, frame):
        """Return what the pairs of backbones in the headings mean."""
        return (
            "Headings: the teacher's backbone → the student's. The teacher's own figures take no part in the marks.",
        )
