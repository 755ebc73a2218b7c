"""CT, label map and radiograph files in and out."""

from training.images.any_file import read_any
from training.images.coco import read_coco, write_coco
from training.images.couch import without_couch
from training.images.ct import read_ct
from training.images.dicom_headers import Series, list_series
from training.images.dicom_seg import read_masks_dicom, write_masks_dicom
from training.images.dicom_write import write_radiograph_dicom
from training.images.exchange import (
    from_rle,
    is_empty,
    read_mask_png,
    to_rle,
    write_ct_nifti,
    write_labels_nifti,
    write_mask_png,
    write_radiograph_png,
)
from training.images.labels import read_labels
from training.images.mask_files import read_mask_pictures, read_masks, write_mask_folder
from training.images.mask_sets import MaskSet
from training.images.radiograph import read_radiograph, shape_of
from training.images.sidecar import write_radiograph
from training.images.types import CT, LabelMap, Radiograph

__all__ = [
    "CT",
    "LabelMap",
    "MaskSet",
    "Radiograph",
    "Series",
    "from_rle",
    "is_empty",
    "list_series",
    "read_any",
    "read_coco",
    "read_ct",
    "read_labels",
    "read_mask_pictures",
    "read_mask_png",
    "read_masks",
    "read_masks_dicom",
    "read_radiograph",
    "shape_of",
    "to_rle",
    "without_couch",
    "write_coco",
    "write_ct_nifti",
    "write_labels_nifti",
    "write_mask_folder",
    "write_mask_png",
    "write_masks_dicom",
    "write_radiograph",
    "write_radiograph_dicom",
    "write_radiograph_png",
]
