"""Ambiguous segmentation: laws of masks, and distances, scores and ensembles of them that are exact where the laws are."""

from ensembletheory.segmentation.graders import LesionImages as LesionImages
from ensembletheory.segmentation.graders import dilated as dilated
from ensembletheory.segmentation.graders import eroded as eroded
from ensembletheory.segmentation.graders import grey_matter_map as grey_matter_map
from ensembletheory.segmentation.graders import lesion_images as lesion_images
from ensembletheory.segmentation.graders import morphological_graders as morphological_graders
from ensembletheory.segmentation.graders import shifted as shifted
from ensembletheory.segmentation.graders import threshold_graders as threshold_graders
from ensembletheory.segmentation.mask_law import MaskDistribution as MaskDistribution
from ensembletheory.segmentation.mask_law import MaskLaw as MaskLaw
