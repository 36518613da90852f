"""Ambiguous segmentation: laws of masks, and distances, scores and ensembles of them that are exact where the laws are."""

from ensembletheory.segmentation.mask_law import MaskDistribution as MaskDistribution
from ensembletheory.segmentation.mask_law import MaskLaw as MaskLaw
