"""Images from disk as a pool: `read_voc`, `read_coco`, `read_yolo`, `read_label_studio`, ...

A reader looks at everything before it raises one `DataError`; what it repairs or sets aside stands
in `pool.findings`; clean data give no finding and no warning. Each format's own coordinates stay in
its module. `read_folder` and `read_frames` take images and video without labels.
"""

from almining.data.formats.coco import read_coco
from almining.data.formats.folders import read_folder, read_frames
from almining.data.formats.label_studio import read_label_studio
from almining.data.formats.voc import VOC_CLASSES, read_voc
from almining.data.formats.yolo import read_yolo

__all__ = [
    "VOC_CLASSES",
    "read_coco",
    "read_folder",
    "read_frames",
    "read_label_studio",
    "read_voc",
    "read_yolo",
]
