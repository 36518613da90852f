"""The published figures: one file each, see `paper_figures.framework.contract`. Every other module of this folder is a figure."""
