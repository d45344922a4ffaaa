"""The packages of the extra ``distributed``, and what is said if one is missing."""

from __future__ import annotations

from importlib import import_module
from typing import Any


class MissingExtraError(ImportError, ValueError):
    """A package of the extra ``distributed`` is not installed."""


def needed(name: str) -> Any:
    """Import a module; raise MissingExtraError if its package is not installed."""
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        package = (error.name or name).partition(".")[0]
        raise MissingExtraError(f'{package} is not installed; run: pip install "sk-ulmfit[distributed]"') from None


def needed_dataframes() -> Any:
    """Import Dask's data frames; raise MissingExtraError if Dask, pandas or pyarrow is not installed."""
    try:
        return needed("dask.dataframe")
    except MissingExtraError:
        raise
    except ImportError:  # Dask's own words for what it lacks
        raise MissingExtraError('dask[dataframe] is not installed; run: pip install "sk-ulmfit[distributed]"') from None
