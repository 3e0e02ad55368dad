"""A pool as files of other tools: `write_coco`, `write_voc`, `write_yolo`, `write_label_studio`.

Each writer returns findings (action `"warning"`) of what its format cannot hold, one for each kind
of loss; an empty tuple says that reading the files gives back all of the pool. COCO, with what it
has no word for under a key of its own, holds everything. Files appear whole or not at all, none is
replaced unless asked, and nothing is written outside the folder given or through a link. How a
format is written is in a module of its own; archives and uploads are not here.
"""

from almining.data.formats.write_coco import write_coco
from almining.data.formats.write_label_studio import label_studio_config, write_label_studio
from almining.data.formats.write_voc import write_voc
from almining.data.formats.write_yolo import write_yolo

__all__ = [
    "label_studio_config",
    "write_coco",
    "write_label_studio",
    "write_voc",
    "write_yolo",
]
