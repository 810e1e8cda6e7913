"""Detection over HTTP: an image in a request, a JSON record in the reply."""

from igcv3det.service.application import build_app
from igcv3det.service.limits import Limits

__all__ = ["Limits", "build_app"]
