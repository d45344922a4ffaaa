"""The application: its paths, and what each answers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request
from starlette.responses import Response

from sk_ulmfit._messages import short
from sk_ulmfit._validation import check_number
from sk_ulmfit._version import __version__
from sk_ulmfit.serving import schemas
from sk_ulmfit.serving.access import Access, check_token, host_name
from sk_ulmfit.serving.errors import JsonAnswer, RequestError, add_error_handlers
from sk_ulmfit.serving.files import PageFile, page_files
from sk_ulmfit.serving.guard import Guard
from sk_ulmfit.serving.limits import Limits
from sk_ulmfit.serving.metrics import Metrics
from sk_ulmfit.serving.models import as_served
from sk_ulmfit.serving.service import Service

_ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": schemas.Error, "description": description}
    for status, description in {
        400: "The body is not JSON, or the host is not that of the server",
        401: "The token is missing or wrong",
        408: "The body did not arrive in time",
        413: "The body, a text, or the number of texts is beyond a limit",
        415: "The body is not declared as JSON",
        422: "The body is JSON, but not what is expected",
        503: "The server is busy; the header Retry-After says when to try again",
        504: "The answer took too long",
    }.items()
}


def make_app(
    model: Any,
    *,
    name: str = "model",
    limits: Limits | None = None,
    token: str | None = None,
    hosts: str | Iterable[str] | None = None,
    n_threads: int | None = None,
) -> FastAPI:
    """Return an ASGI application that serves a model: an API, and a page to try it on.

    ``sk-ulmfit serve`` runs it with uvicorn; another ASGI server does as well, as one process for each model in memory.

    Parameters
    ----------
    model : ULMFiTMultiLabelClassifier, ULMFiTRegressor, OnnxClassifier or OnnxRegressor
        A fitted model, or an exported one, which has no explanations. What is set or fitted later does not change
        what is served.
    name : str, default="model"
        Name of the model, for the page.
    limits : Limits, default=None
        How much it accepts; None for the defaults.
    token : str, default=None
        Token that requests must bear, all but those for the page and for ``/health``.
    hosts : str or iterable of str, default=None
        Host names that requests may be sent to; None for any. ``/health`` answers to all.
    n_threads : int, default=None
        Cores that each of the two computing threads uses; None for half of all.

    Returns
    -------
    fastapi.FastAPI
        The application.

    Raises
    ------
    ValueError
        If the model cannot be served, the token is short, or a host is no name.

    Examples
    --------
    >>> from starlette.testclient import TestClient
    >>> from sk_ulmfit import ULMFiTLanguageModel, ULMFiTMultiLabelClassifier
    >>> from sk_ulmfit.serving import make_app
    >>> lm = ULMFiTLanguageModel(max_epochs=1, emb_dim=10, hidden_dim=16, n_layers=2)
    >>> clf = ULMFiTMultiLabelClassifier(lm, max_epochs=1, random_state=0)
    >>> texts = ["the lamp is late", "the lamp is broken"] * 8
    >>> clf = clf.fit(texts, [["late"], ["broken"]] * 8)
    >>> with TestClient(make_app(clf)) as client:
    ...     answer = client.post("/predict", json={"texts": ["The lamp is late"]}).json()
    >>> list(answer["predictions"][0]["probabilities"])
    ['broken', 'late']
    """
    if not isinstance(name, str):
        raise ValueError(f"name must be a str, got {short(name)}.")
    check_number("n_threads", n_threads, low=1, integer=True, none=True)
    limits, metrics = limits or Limits(), Metrics()
    access = Access(
        token=None if token is None else check_token(token, "token"),
        hosts=None if hosts is None else frozenset(map(host_name, [hosts] if isinstance(hosts, str) else hosts)),
    )
    service = Service(as_served(model), name, limits, metrics, n_threads)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        async with service.running():
            yield

    app = FastAPI(
        title="sk-ulmfit", version=__version__, docs_url=None, redoc_url=None, redirect_slashes=False, lifespan=lifespan
    )
    add_error_handlers(app)
    _add_api(app, service)
    _add_page(app)
    app.add_middleware(Guard, access=access, limits=limits, metrics=metrics)
    app.state.metrics = metrics
    return app


def _add_api(app: FastAPI, service: Service) -> None:
    @app.post("/predict", response_model=schemas.PredictAnswer, responses=_ERRORS)
    async def predict(request: schemas.PredictRequest) -> Any:
        """Predict labels and probabilities, or values, of texts."""
        return JsonAnswer(await service.predict(request.texts))

    @app.post("/explain", response_model=schemas.ExplainAnswer, responses=_ERRORS)
    async def explain(request: schemas.ExplainRequest) -> Any:
        """Say which words of a text speak for and against labels, or raise and lower values."""
        return JsonAnswer(await service.explain(request.text, request.labels, request.method))

    @app.get("/labels", response_model=schemas.ModelAnswer, responses={401: _ERRORS[401]})
    async def labels() -> Any:
        """Describe the model: its labels with their thresholds, or its targets with their ranges."""
        return JsonAnswer(service.describe())

    @app.get("/health", response_model=schemas.Health)
    async def health() -> Any:
        """Say that the server answers."""
        return JsonAnswer({"status": "ok"})

    @app.get("/metrics", responses={401: _ERRORS[401]}, response_class=Response)
    async def metrics() -> Any:
        """Return the figures of the server in Prometheus' text format."""
        return Response(service.metrics.text(), headers={"Content-Type": service.metrics.content_type})


def _add_page(app: FastAPI) -> None:
    pages = page_files()

    @app.api_route("/", methods=["GET", "HEAD"], include_in_schema=False)
    async def page(request: Request) -> Any:
        return _file_answer(request, pages["index.html"])

    @app.api_route("/static/{file_name}", methods=["GET", "HEAD"], include_in_schema=False)
    async def static(request: Request, file_name: str) -> Any:
        if file_name not in pages:
            raise RequestError(404, f"The page has no file {short(file_name, 40)}.")
        return _file_answer(request, pages[file_name])


def _file_answer(request: Request, file: PageFile) -> Response:
    """Return a file of the page, or that the client has it already."""
    headers = {"Cache-Control": "no-cache", "ETag": file.etag}
    if request.headers.get("if-none-match") == file.etag:
        return Response(status_code=304, headers=headers)
    return Response(file.content, headers={**headers, "Content-Type": file.content_type})
