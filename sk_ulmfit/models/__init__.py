"""Models as plain data: in memory, in files, bundled with the package, and published for fastai."""

from sk_ulmfit.models.fastai import load_fastai, load_fastai_language_model
from sk_ulmfit.models.state import ModelFileError, ModelState, load_state, save_state

__all__ = ["ModelFileError", "ModelState", "load_fastai", "load_fastai_language_model", "load_state", "save_state"]
