"""The optional dependency of this folder."""

from __future__ import annotations

import importlib
import warnings
from typing import Any


def geometric(module: str) -> Any:
    """A module of torch_geometric.

    Raises:
        ImportError: if torch_geometric is missing.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # its own imports
            return importlib.import_module(f"torch_geometric.{module}")
    except ImportError as error:
        raise ImportError(
            f"graph encoders, raw files and downloads of graphs need torch_geometric, got: {error}; install it with "
            "pip install 'msda_theory[graph]'."
        ) from error
