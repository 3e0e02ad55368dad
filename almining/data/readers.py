"""Annotated images from disk as a pool: `read_voc` and `read_coco`.

A reader looks at everything before it raises one `DataError`; what it repairs or sets aside stands
in `pool.findings`; clean data give no finding and no warning. VOC's inclusive coordinates live in
`data.voc`, COCO's x y w h in `data.coco`. Video, plain folders and the streaming of very large
files are not here.
"""

from almining.data.coco import read_coco
from almining.data.voc import VOC_CLASSES, read_voc

__all__ = ["VOC_CLASSES", "read_coco", "read_voc"]
