"""All rows: the defects by their number in the catalogue, and the clean sets."""

from __future__ import annotations

from tests.data import defects_coco, defects_folders, defects_images, defects_voc
from tests.data.defects import Row

PARTS = (defects_coco, defects_voc, defects_folders, defects_images)
ROWS: list[Row] = sorted(
    (row for part in PARTS for row in part.ROWS), key=lambda row: (row.number, row.format)
)
CLEAN: list[Row] = [
    *(*defects_coco.CLEAN, *defects_voc.CLEAN, *defects_folders.CLEAN),
]
