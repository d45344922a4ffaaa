"""Predictions for any number of texts on Dask."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from sk_ulmfit._messages import short_names
from sk_ulmfit._validation import check_number
from sk_ulmfit.distributed.extra import needed
from sk_ulmfit.distributed.inputs import as_frame, as_list, check_columns, text_columns
from sk_ulmfit.distributed.models import Description, SentModel, check_model, describe, model_file, sent_model
from sk_ulmfit.distributed.threads import current_client, slots_by_host


def predict_proba(
    model: Any,
    texts: Any,
    *,
    column: Any = None,
    keep: Any = None,
    device: str | None = None,
    n_threads: int | None = None,
    storage_options: Mapping[str, Any] | None = None,
    client: Any = None,
) -> Any:
    """Predict the probability of each label for any number of texts, with Dask.

    Parameters
    ----------
    model : path-like or fitted ULMFiTMultiLabelClassifier
        Path of a saved classifier that all workers see; each worker process loads it once and frees it ten minutes
        after its last use. Or a fitted classifier, which travels once with the graph; above 10 MB Dask warns of its
        size.
    texts : Bag, DataFrame or Series of Dask, path-like, or list of paths
        Texts: a bag of str or of dicts, a data frame, or Parquet files by any path of fsspec (a file, a folder, a
        pattern, also ``"s3://..."``).
    column : str or list of str, default=None
        Text column, or several that are joined as fields; keys of the dicts of a bag. None takes the columns that the
        model was trained on with ``sk-ulmfit train``, or the only one.
    keep : str or list of str, default=None
        Columns of `texts` to repeat in front of the predictions, such as an id.
    device : str, default=None
        Torch device of the workers. None: "auto" for a path, else that of the classifier.
    n_threads : int or None, default=None
        Threads of torch for each task. None: the cores of a machine divided by the tasks that its workers run at the
        same time. They are set back after each task.
    storage_options : mapping, default=None
        Options of fsspec for a path of Parquet files.
    client : distributed.Client, default=None
        Client whose workers are checked at once: package, version, path and model. None takes the current one. Without
        any, the schedulers of Dask for one machine do the work, and the path must be seen here.

    Returns
    -------
    dask.dataframe.DataFrame
        Lazily, `keep` and one float64 column for each label, named by label as text. Index, divisions and order are
        those of `texts`. A task of a worker that is lost is done again by another one.

    Raises
    ------
    WorkerCheckError
        If a worker lacks the package, has another version of it, or cannot read the model.
    ValueError
        If the model or the texts are not valid. A missing text is noticed in its task; the error names the row.

    Examples
    --------
    >>> import pandas as pd
    >>> from dask import dataframe
    >>> from sk_ulmfit import ULMFiTLanguageModel, ULMFiTMultiLabelClassifier
    >>> from sk_ulmfit.distributed import predict_proba
    >>> texts = ["the lamp is late", "the lamp is broken", "late and broken"] * 8
    >>> y = [["late"], ["broken"], ["broken", "late"]] * 8
    >>> lm = ULMFiTLanguageModel(max_epochs=1, emb_dim=10, hidden_dim=16, n_layers=2)
    >>> clf = ULMFiTMultiLabelClassifier(lm, max_epochs=1, random_state=0).fit(texts, y)
    >>> table = pd.DataFrame({"id": range(24), "text": texts})
    >>> mail = dataframe.from_pandas(table, npartitions=2)
    >>> predicted = predict_proba(clf, mail, column="text", keep="id")
    >>> list(predicted.columns), len(predicted)
    (['id', 'broken', 'late'], 24)
    """
    return _predicted("predict_proba", model, texts, column, keep, None, device, n_threads, storage_options, client)


def predict(
    model: Any,
    texts: Any,
    *,
    column: Any = None,
    keep: Any = None,
    threshold: Any = None,
    device: str | None = None,
    n_threads: int | None = None,
    storage_options: Mapping[str, Any] | None = None,
    client: Any = None,
) -> Any:
    """Predict 0 or 1 for each label, or the values of a regressor, for any number of texts, with Dask.

    Parameters
    ----------
    model : path-like or fitted estimator
        A classifier or a regressor, as of `predict_proba`.
    texts : Bag, DataFrame or Series of Dask, path-like, or list of paths
        Texts, as of `predict_proba`.
    column, keep : str or list of str, default=None
        Text columns, and columns to repeat, as of `predict_proba`.
    threshold : float, dict or str, default=None
        Threshold in place of those of a classifier and of its `top_k`, as ``set_thresholds`` takes it.
    device : str, default=None
        Torch device, as of `predict_proba`.
    n_threads : int or None, default=None
        Threads of torch for each task, as of `predict_proba`.
    storage_options : mapping, default=None
        Options of fsspec for a path of Parquet files.
    client : distributed.Client, default=None
        Client whose workers are checked, as of `predict_proba`.

    Returns
    -------
    dask.dataframe.DataFrame
        As of `predict_proba`, with one column for each label (int64), or for each target (float64).

    Raises
    ------
    WorkerCheckError, ValueError
        As of `predict_proba`.

    See Also
    --------
    predict_proba : Probabilities, and an example.
    """
    return _predicted("predict", model, texts, column, keep, threshold, device, n_threads, storage_options, client)


def predict_labels(
    model: Any,
    texts: Any,
    *,
    column: Any = None,
    keep: Any = None,
    threshold: Any = None,
    device: str | None = None,
    n_threads: int | None = None,
    storage_options: Mapping[str, Any] | None = None,
    client: Any = None,
) -> Any:
    """Predict the labels of any number of texts by name, with Dask.

    Parameters
    ----------
    model : path-like or fitted ULMFiTMultiLabelClassifier
        As of `predict_proba`.
    texts : Bag, DataFrame or Series of Dask, path-like, or list of paths
        Texts, as of `predict_proba`.
    column, keep : str or list of str, default=None
        Text columns, and columns to repeat, as of `predict_proba`.
    threshold : float, dict or str, default=None
        Threshold in place of those of the classifier and of its `top_k`, as ``set_thresholds`` takes it.
    device : str, default=None
        Torch device, as of `predict_proba`.
    n_threads : int or None, default=None
        Threads of torch for each task, as of `predict_proba`.
    storage_options : mapping, default=None
        Options of fsspec for a path of Parquet files.
    client : distributed.Client, default=None
        Client whose workers are checked, as of `predict_proba`.

    Returns
    -------
    dask.dataframe.DataFrame
        As of `predict_proba`, with one column ``predicted_labels`` of lists of text. Its method
        ``to_parquet`` needs a ``pyarrow.schema`` of all columns, since Dask cannot infer that of lists.

    Raises
    ------
    WorkerCheckError, ValueError
        As of `predict_proba`.

    See Also
    --------
    predict_proba : Probabilities, and an example.
    """
    what = "predict_labels"
    return _predicted(what, model, texts, column, keep, threshold, device, n_threads, storage_options, client)


def _predicted(
    what: str,
    model: Any,
    texts: Any,
    column: Any,
    keep: Any,
    threshold: Any,
    device: str | None,
    n_threads: int | None,
    storage_options: Mapping[str, Any] | None,
    client: Any,
) -> Any:
    """Check everything at once, then return the predictions as a Dask data frame."""
    check_model(model)
    check_number("n_threads", n_threads, low=1, integer=True, none=True)
    frame = as_frame(texts, column, keep, storage_options)
    client = current_client() if client is None else client
    in_tasks, description = _for_tasks(model, device, threshold, client)
    if what != "predict" and description.kind == "regressor":
        raise ValueError(f"{what} is of classifiers, and the model is a regressor; use predict.")
    columns, kept = text_columns(frame, column, description.metadata), as_list(keep)
    from sk_ulmfit.distributed.rows import output_columns, predict_partition

    outputs = output_columns(what, description)
    _check_kept(frame, kept, list(outputs))
    if columns:
        frame = frame[[*columns, *(name for name in kept if name not in columns)]]  # others are not even read
    return frame.map_partitions(
        predict_partition,
        in_tasks,
        what=what,
        columns=columns,
        keep=kept,
        n_threads=n_threads,
        slots={} if client is None else slots_by_host(client),
        meta=_meta(frame, kept, outputs),
        enforce_metadata=False,
    )


def _for_tasks(model: Any, device: str | None, threshold: Any, client: Any) -> tuple[Any, Description]:
    """Check the workers; return what tasks open, and what the model predicts."""
    workers: list[str] = []
    if client is not None:
        from sk_ulmfit.distributed import worker_checks

        workers = worker_checks.check_package(client)
    if not isinstance(model, (str, os.PathLike)):
        sent = sent_model(model, device, threshold)
        return needed("dask").delayed(SentModel, pure=True)(sent.content, sent.name), describe(model)
    file = model_file(model, device or "auto", threshold)
    description = worker_checks.check_model(client, file) if workers else file.describe()
    return replace(file, digest=description.digest), description


def _check_kept(frame: Any, keep: list[Any], predicted: list[str]) -> None:
    """Raise ValueError for columns that do not exist, or are named like a prediction."""
    if keep and frame.ndim == 1:
        raise ValueError("keep is for a DataFrame, and texts is a Series, which has no other columns; omit it.")
    check_columns(list(getattr(frame, "columns", [])), keep)
    if both := [name for name in keep if str(name) in predicted]:
        raise ValueError(f"keep has {short_names(both)}, which predicted columns are called too; rename them first.")


def _meta(frame: Any, keep: list[Any], outputs: Mapping[str, Any]) -> Any:
    """Return an empty data frame of the type that a partition becomes."""
    import pandas as pd

    empty = frame._meta
    predicted = pd.DataFrame({name: pd.Series([], dtype=dtype) for name, dtype in outputs.items()})
    predicted = predicted.set_axis(empty.index[:0])
    return pd.concat([empty[keep], predicted], axis=1) if keep else predicted
