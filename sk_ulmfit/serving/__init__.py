"""A server for a trained model: an API and a page to try it on. Needs the extra ``serve``."""

from sk_ulmfit.serving.app import make_app
from sk_ulmfit.serving.limits import Limits

__all__ = ["Limits", "make_app"]
