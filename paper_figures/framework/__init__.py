"""The contract of a figure, its runner, its checkpoints and the page of results."""

from paper_figures.framework.contract import Caption as Caption
from paper_figures.framework.contract import Data as Data
from paper_figures.framework.contract import Figure as Figure
from paper_figures.framework.contract import Number as Number
from paper_figures.framework.contract import mean_number as mean_number
from paper_figures.framework.work import checkpoint as checkpoint
