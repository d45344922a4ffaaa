"""Pre-training of a language model on a large corpus (stage 1 of ULMFiT), in runs that can be stopped and resumed."""

from sk_ulmfit.pretraining.folder import CHECKPOINTS, LOG, MODEL, has_checkpoint
from sk_ulmfit.pretraining.run import pretrain
from sk_ulmfit.pretraining.settings import PretrainingError
from sk_ulmfit.pretraining.tokenizing import tokenize_files

__all__ = ["CHECKPOINTS", "LOG", "MODEL", "PretrainingError", "has_checkpoint", "pretrain", "tokenize_files"]
