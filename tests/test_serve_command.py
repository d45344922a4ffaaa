import os
import re
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

pytest.importorskip("fastapi")

import httpx

from sk_ulmfit.cli.main import main
from sk_ulmfit.serving.server import bind

TOKEN = "a-token-for-the-tests-only"


@pytest.fixture(scope="module")
def model(fitted, tmp_path_factory):
    path = tmp_path_factory.mktemp("models") / "mail.model"
    fitted.save(path)
    return path


@pytest.fixture
def server(model):
    """Start the command with more options; return its process and its address when it is ready."""
    processes = []

    def start(*options, **environment):
        command = [sys.executable, "-m", "sk_ulmfit", "serve", str(model), "--port", "0", *options]
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, **environment}
        )
        processes.append(process)
        lines = []
        while not lines or "Serving" not in lines[-1]:
            lines.append(process.stderr.readline())
            assert lines[-1], lines
        return process, re.search(r"on (http://\S+);", lines[-1])[1], lines

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def run(*args):
    return main([str(arg) for arg in args])


def test_a_server_answers_what_it_has_before_it_ends(server, model, fitted, capsys):
    process, url, lines = server()
    assert lines == [f"Serving {model} (3 labels) on {url}; Ctrl-C stops it.\n"]
    answer = httpx.post(f"{url}/predict", json={"texts": ["My lamp is late"]}).json()["predictions"][0]
    expected = fitted.predict_proba(["My lamp is late"])[0]
    assert np.abs(np.array(list(answer["probabilities"].values())) - expected).max() < 1e-6

    assert run("serve", model, "--port", url.rpartition(":")[2]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "cannot be used (Address already in use); choose another one with --port." in error

    text = "the lamp is late and the hub is broken " * 60
    with ThreadPoolExecutor(1) as threads:
        last = threads.submit(httpx.post, f"{url}/explain", json={"text": text}, timeout=60)
        while 'path="/predict"' not in httpx.get(f"{url}/metrics").text or last.running() is False:
            pass
        httpx.get(f"{url}/health")
        process.send_signal(signal.SIGTERM)
        assert last.result().status_code == 200
    out, err = process.communicate(timeout=30)
    assert process.returncode == 0
    assert re.fullmatch(r"Stopped after \d+ requests\.\n", out)
    assert err == ""


def test_ctrl_c_ends_a_server_and_a_token_comes_from_the_environment(server):
    process, url, _ = server("--json", SK_ULMFIT_TOKEN=TOKEN)
    assert httpx.get(f"{url}/labels").status_code == 401
    assert httpx.get(f"{url}/labels", headers={"Authorization": f"Bearer {TOKEN}"}).status_code == 200
    assert httpx.get(f"{url}/labels", headers={"Host": "evil.example"}).status_code == 400
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (0, "")
    assert '"n_requests": 3' in out


def test_other_machines_without_a_token_get_a_warning(server, tmp_path):
    _, url, lines = server("--host", "0.0.0.0")
    assert len(lines) == 2
    assert "note: anyone who reaches" in lines[0]
    assert "--token-file" in lines[0]
    (tmp_path / "token").write_text(TOKEN + "\n")
    _, url, lines = server("--host", "0.0.0.0", "--token-file", str(tmp_path / "token"))
    assert len(lines) == 1
    assert httpx.get(f"{url}/labels".replace("0.0.0.0", "127.0.0.1")).status_code == 401


def test_the_missing_extra_is_named(model, monkeypatch, capsys):
    for name in ("fastapi", "uvicorn", "prometheus_client"):
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, name, None)
            assert run("serve", model) == 2
        assert capsys.readouterr().err == (
            f'sk-ulmfit serve: {name} is not installed; run: pip install "sk-ulmfit[serve]"\n'
        )


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--port", "70000"], "--port must be an integer from 0 to 65535"),
        (["--max-texts", "0"], "--max-texts must be an integer at least 1"),
        (["--time-limit", "0"], "--time-limit must be a number above 0"),
        (["--threads", "0"], "--threads must be an integer at least 1"),
        (["--host", "no.such.host.invalid"], "--host 'no.such.host.invalid' is not an address"),
        (["--allow-host", "https://mail.example.org", "--port", "0"], "a name without scheme"),
        (["--token-file", "nowhere"], "There is no file nowhere"),
        (["--token-file", "weak"], "must have at least 16"),
        (["--threshold", "2", "--port", "0"], "threshold"),
    ],
)
def test_wrong_options_are_told_in_a_line(model, options, words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "weak").write_text("1234")
    assert run("serve", model, *options) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1


def test_what_is_no_model_is_told_in_a_line(tmp_path, capsys):
    (tmp_path / "a.csv").write_text("text\nlamp\n")
    assert run("serve", tmp_path / "a.csv", "--port", "0") == 2
    assert run("serve", tmp_path / "nothing.model", "--port", "0") == 2
    assert capsys.readouterr().err.count("\n") == 2


def test_a_port_is_bound_once():
    with bind("127.0.0.1", 0) as bound, pytest.raises(ValueError, match="cannot be used"):
        bind("127.0.0.1", bound.getsockname()[1])
