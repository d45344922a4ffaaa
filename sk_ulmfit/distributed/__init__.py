"""Work for more than one process: one model trained on several devices; predictions and searches on Dask.

Dask needs the extra ``distributed``.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sk_ulmfit.distributed.prediction import predict, predict_labels, predict_proba
    from sk_ulmfit.distributed.threads import worker_threads
    from sk_ulmfit.distributed.training import shared_training
    from sk_ulmfit.distributed.worker_checks import WorkerCheckError

__all__ = ["WorkerCheckError", "predict", "predict_labels", "predict_proba", "shared_training", "worker_threads"]

_HOMES = {
    "WorkerCheckError": "worker_checks",
    "predict": "prediction",
    "predict_labels": "prediction",
    "predict_proba": "prediction",
    "shared_training": "training",
    "worker_threads": "threads",
}


if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        """Import what is asked for: Dask for predictions, torch for trainings."""
        if name not in _HOMES:
            raise AttributeError(f"module 'sk_ulmfit.distributed' has no attribute {name!r}")
        return getattr(import_module(f"sk_ulmfit.distributed.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
