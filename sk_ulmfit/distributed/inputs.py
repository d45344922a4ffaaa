"""What texts may come as: a bag, a data frame or Parquet files, each as one Dask data frame or series."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from sk_ulmfit._messages import describe_value, short, short_names, short_text
from sk_ulmfit.distributed.extra import needed, needed_dataframes

TEXT = "text"


def as_frame(texts: Any, column: Any, keep: Any, storage_options: Mapping[str, Any] | None) -> Any:
    """Return texts as a Dask data frame or series; raise ValueError for anything else.

    Parameters
    ----------
    texts : Bag, DataFrame or Series of Dask, path-like, or list of paths
        Texts. A path names Parquet files: a file, a folder, or a pattern, as fsspec reads them.
    column, keep : str, list of str or None
        For a bag: None if its items are texts, else the keys to read of its dicts.
    storage_options : mapping or None
        Options of fsspec.
    """
    frames = needed_dataframes()
    if isinstance(texts, (frames.DataFrame, frames.Series)):
        return texts
    if isinstance(texts, (str, os.PathLike)) or _is_list_of_paths(texts):
        return _parquet(frames, texts, storage_options)
    if isinstance(texts, needed("dask.bag").Bag):
        return _frame_of_bag(texts, list(dict.fromkeys(as_list(column) + as_list(keep))))
    raise ValueError(
        "texts must be a bag, DataFrame or Series of Dask, or the path of Parquet files, got "
        f"{describe_value(texts)}; for texts in memory call the method of the model itself, or dask.bag.from_sequence."
    )


def as_list(names: Any) -> list[Any]:
    """Return one name or several, or none, as a list."""
    if names is None:
        return []
    return list(names) if isinstance(names, (list, tuple)) else [names]


def text_columns(frame: Any, column: Any, metadata: Mapping[str, Any]) -> list[Any]:
    """Return the text columns of a Dask data frame; none for a series.

    They are those that are named, or those that the model was trained on, or the only column. Raises ValueError if
    there is no such column.
    """
    if not hasattr(frame, "columns") or frame.ndim == 1:
        if column is not None:
            raise ValueError("column is for a DataFrame, and texts is a Series; omit it.")
        return []
    columns = list(frame.columns)
    names = as_list(column) or ([columns[0]] if len(columns) == 1 else as_list(metadata.get(TEXT)))
    if not names:
        raise ValueError(f"Name the text column with column=...; the columns are {short_names(columns)}.")
    check_columns(columns, names)
    return names


def check_columns(columns: Sequence[Any], names: Sequence[Any]) -> None:
    """Raise ValueError if a column is missing, or not the only one of its name."""
    for name in names:
        if list(names).count(name) > 1:
            raise ValueError(f"Column {short(name)} is named twice; name it once.")
        if list(columns).count(name) > 1:
            raise ValueError(f"texts has several columns {short(name)}; rename all but one.")
        if name not in columns:
            raise ValueError(f"texts has no column {short(name)}. Its columns are {short_names(columns)}.")


def _is_list_of_paths(texts: Any) -> bool:
    return isinstance(texts, list) and bool(texts) and all(str(item).endswith((".parquet", ".pq")) for item in texts)


def _parquet(frames: Any, path: Any, storage_options: Mapping[str, Any] | None) -> Any:
    path = os.fspath(path) if isinstance(path, os.PathLike) else path
    try:
        return frames.read_parquet(path, storage_options=dict(storage_options or {}))
    except ImportError as error:  # a file system that needs a package of its own
        raise ValueError(f"{short(path)} cannot be read: {short_text(error, 200)}.") from None
    except (OSError, ValueError) as error:
        raise ValueError(f"{short(path)} holds no Parquet files that can be read ({short_text(error, 200)}).") from None


def _frame_of_bag(bag: Any, keys: list[Any]) -> Any:
    """Return a bag of texts as a series, or a bag of dicts as a data frame with these columns."""
    columns = keys or [TEXT]
    frame = bag.map_partitions(_rows_of_items, keys).to_dataframe(meta=dict.fromkeys(columns, object))
    return frame if keys else frame[TEXT]


def _rows_of_items(items: Any, keys: list[Any]) -> list[Any]:
    rows = []
    for i, item in enumerate(items):
        if keys and not isinstance(item, Mapping):
            raise ValueError(f"Item {i} of a partition is {describe_value(item)}; column=... reads dicts.")
        rows.append([item.get(key) for key in keys] if keys else [item])
    return rows
