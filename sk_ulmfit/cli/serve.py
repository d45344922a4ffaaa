"""``sk-ulmfit serve``: an API for a model, and a page to try it on."""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from importlib import import_module
from pathlib import Path
from typing import Any

from sk_ulmfit._files import check_exists
from sk_ulmfit._messages import count, printable
from sk_ulmfit._validation import check_number
from sk_ulmfit.cli.answers import Answer, print_note

TOKEN_VARIABLE = "SK_ULMFIT_TOKEN"
_LIMITS = {
    "max_texts": ("texts", "most texts in a request", 256),
    "max_characters": ("characters", "most characters in a text", 100_000),
    "max_body": ("body_bytes", "most bytes in a request", 4_000_000),
    "max_waiting": ("waiting_texts", "most texts that wait for an answer", 1_000),
}
# torch keeps compiled products for 1,024 numbers of words, more than 100 MB. Keeping 64 costs 2 % of the time.
_COMPILED_PRODUCTS = ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "64")


def add_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("model", type=Path, metavar="MODEL", help="file written by train, or folder written by export")
    everyday, access, limits = (command.add_argument_group(title) for title in ("Everyday", "Access", "Limits"))
    everyday.add_argument(  # not shared with other commands: an exported model is served without torch
        "--threshold",
        type=float,
        metavar="X",
        help="predict labels with at least this probability (default: as in training)",
    )
    everyday.add_argument(
        "--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1, this machine alone)"
    )
    everyday.add_argument(
        "--port", type=int, default=8000, metavar="N", help="port to listen on; 0 is any free one (default: 8000)"
    )
    everyday.add_argument(
        "--device", default="auto", metavar="D", help="torch device; auto uses a GPU if there is one (default: auto)"
    )
    _add_access(access)
    for option, (_, text, default) in _LIMITS.items():
        flag = "--" + option.replace("_", "-")
        limits.add_argument(flag, type=int, default=default, metavar="N", help=f"{text} (default: {default:,})")
    limits.add_argument(
        "--time-limit", type=float, default=30.0, metavar="S", help="most seconds for an answer (default: 30)"
    )
    machine = command.add_argument_group("Machine")
    machine.add_argument(
        "--threads", type=int, metavar="N", help="cores that one computation uses (default: half of all)"
    )
    machine.add_argument("--access-log", action="store_true", help="log the path and the status of each request")


def _add_access(group: Any) -> None:
    group.add_argument(
        "--token-file",
        type=Path,
        metavar="FILE",
        help=f"file with a token that clients must send; or set the environment variable {TOKEN_VARIABLE} to the token",
    )
    group.add_argument(
        "--allow-host",
        nargs="+",
        action="extend",
        default=[],
        metavar="NAME",
        help="host names that clients use, such as that of a proxy",
    )


def run(options: argparse.Namespace) -> Answer:
    _check_options(options)
    check_exists(options.model)
    _check_extra()
    from sk_ulmfit.serving.access import allowed_names, is_loopback
    from sk_ulmfit.serving.app import make_app
    from sk_ulmfit.serving.models import load_served
    from sk_ulmfit.serving.server import Server, bind, url_of

    os.environ.setdefault(*_COMPILED_PRODUCTS)  # read at the first product
    limits, token = _limits(options), _token(options)
    with bind(options.host, options.port) as bound:
        address, url = bound.getsockname()[0], url_of(bound)
        if token is None and not is_loopback(address):
            print_note(f"anyone who reaches {url} can use this server; set a token with --token-file.")
        hosts = allowed_names(address, options.allow_host)
        model = load_served(options.model, options.device, options.threshold, options.threads)
        app = make_app(
            model, name=options.model.name, limits=limits, token=token, hosts=hosts, n_threads=options.threads
        )
        # warnings about the words of single texts would fill the log
        warnings.simplefilter("ignore", UserWarning)
        server = Server(app, limits, access_log=options.access_log)
        server.on_start = lambda: _say_ready(options, url, model)
        server.run([bound])
    n = app.state.metrics.n_requests
    return Answer(f"Stopped after {count(n, 'request')}.", {"url": url, "n_requests": n})


def _check_options(options: argparse.Namespace) -> None:
    check_number("--port", options.port, low=0, high=65_535, integer=True)
    check_number("--threads", options.threads, low=1, integer=True, none=True)
    check_number("--time-limit", options.time_limit, low=0, exclusive=True)
    for option in _LIMITS:
        check_number("--" + option.replace("_", "-"), getattr(options, option), low=1, integer=True)


def _check_extra() -> None:
    for name in ("fastapi", "prometheus_client", "uvicorn"):
        try:
            import_module(name)
        except ModuleNotFoundError:
            raise ValueError(f'{name} is not installed; run: pip install "sk-ulmfit[serve]"') from None


def _limits(options: argparse.Namespace) -> Any:
    from sk_ulmfit.serving.limits import Limits

    named = {field: getattr(options, option) for option, (field, _, _) in _LIMITS.items()}
    return Limits(**named, seconds=options.time_limit)


def _token(options: argparse.Namespace) -> str | None:
    """Return the token of the file or of the environment; it is no option, since other users see those."""
    from sk_ulmfit.serving.access import check_token

    if options.token_file is not None:
        check_exists(options.token_file)
        return check_token(options.token_file.read_text("utf-8", "replace"), str(options.token_file))
    token = os.environ.get(TOKEN_VARIABLE)
    return None if token is None else check_token(token, TOKEN_VARIABLE)


def _say_ready(options: argparse.Namespace, url: str, model: Any) -> None:
    what = "labels" if model.kind == "classifier" else "targets"
    print(
        f"Serving {printable(str(options.model))} ({len(model.names)} {what}) on {url}; Ctrl-C stops it.",
        file=sys.stderr,
        flush=True,
    )
