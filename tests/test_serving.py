import json
import re
import socket
import time
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress

import numpy as np
import pytest

pytest.importorskip("fastapi")

import httpx
from conftest import make_corpus
from fastapi import FastAPI
from fastapi.testclient import TestClient
from serving_models import FakeModel, served

from sk_ulmfit import ULMFiTMultiLabelClassifier, ULMFiTRegressor
from sk_ulmfit.serving import Limits, make_app
from sk_ulmfit.serving.access import allowed_names, check_token
from sk_ulmfit.text import join_fields

TOKEN = "a-token-for-the-tests-only"


@pytest.fixture
def client():
    with TestClient(make_app(FakeModel(), limits=Limits(texts=5, characters=100, body_bytes=2_000))) as client:
        yield client


@pytest.fixture(scope="module")
def regressor():
    texts, labels = make_corpus(40, seed=3)
    y = [[len(names), "late" in text] for names, text in zip(labels, texts, strict=True)]
    from conftest import tiny_lm

    model = ULMFiTRegressor(tiny_lm(), max_epochs=1, batch_size=8, tfidf=False, random_state=0, y_range=(0, 3))
    return model.fit(texts, np.array(y, float))


def post(client, path, body, **headers):
    """Return status and answer; every error is one line of JSON."""
    content = body if isinstance(body, (bytes, str)) else json.dumps(body)
    response = client.post(path, content=content, headers={"Content-Type": "application/json", **headers})
    answer = response.json()
    if response.status_code >= 400:
        assert list(answer) == ["error"]
        assert answer["error"].endswith(".")
        assert "\n" not in answer["error"]
        assert len(answer["error"]) < 300
    return response.status_code, answer


# Predictions


def test_predictions_are_those_of_the_classifier_whatever_arrives_with_them(fitted):
    texts = [text[: 7 + 11 * k] for k, text in enumerate(make_corpus(40, seed=9)[0])] + [
        "",
        "ß …",
        "unknown wörds",
        "a" * 3000,
    ]
    expected = {text: (fitted.predict_proba([text])[0], fitted.predict_labels([text])[0]) for text in texts}
    rng = np.random.default_rng(0)
    requests = [rng.choice(texts, size=rng.integers(1, 5)).tolist() for _ in range(60)]
    with served(fitted) as url, httpx.Client(base_url=url) as client, ThreadPoolExecutor(16) as threads:
        answers = list(threads.map(lambda some: client.post("/predict", json={"texts": some}).json(), requests))
        metrics = client.get("/metrics").text
    for some, answer in zip(requests, answers, strict=True):
        assert len(answer["predictions"]) == len(some)
        for text, prediction in zip(some, answer["predictions"], strict=True):
            proba, labels = expected[text]
            assert list(prediction["probabilities"]) == list(fitted.label_names_)
            assert np.abs(np.array(list(prediction["probabilities"].values())) - proba).max() < 1e-5
            assert prediction["labels"] == list(labels)
    assert int(float(re.search(r"sk_ulmfit_batch_texts_count (\S+)", metrics)[1])) <= 60


def test_a_saved_model_predicts_the_same_bits(fitted, tmp_path):
    fitted.save(tmp_path / "m.model", metadata={"text": ["subject", "body"], "delimiter": "|"})
    loaded = ULMFiTMultiLabelClassifier.load(tmp_path / "m.model")
    with TestClient(make_app(loaded)) as client:
        answer = client.post("/predict", json={"texts": ["My lamp is late"]}).json()["predictions"][0]
        described = client.get("/labels").json()
    assert list(answer["probabilities"].values()) == fitted.predict_proba(["My lamp is late"])[0].tolist()
    assert described["text_columns"] == ["subject", "body"]
    assert described["delimiter"] == "|"
    assert [output["threshold"] for output in described["outputs"]] == fitted.thresholds_.tolist()


def test_what_is_set_later_does_not_change_what_is_served(fitted):
    import copy

    clf = copy.copy(fitted)
    with TestClient(make_app(clf)) as client:
        before = client.post("/predict", json={"texts": ["late"]}).json()
        clf.set_params(threshold=0.999)
        assert client.post("/predict", json={"texts": ["late"]}).json() == before


def test_values_of_a_regressor(regressor):
    with TestClient(make_app(regressor)) as client:
        values = client.post("/predict", json={"texts": ["late", ""]}).json()["predictions"]
        described = client.get("/labels").json()
        explained = client.post("/explain", json={"text": "My lamp is late"}).json()
    expected = regressor.predict(["late", ""])
    names = [str(name) for name in regressor.target_names_]
    assert np.allclose([list(row["values"].values()) for row in values], expected, atol=1e-6)
    assert [list(row["values"]) for row in values] == [names, names]
    assert described["kind"] == "regressor"
    assert [output["range"] for output in described["outputs"]] == [[0, 3], [0, 3]]
    assert [output["name"] for output in explained["outputs"]] == names
    assert len(explained["outputs"][0]["scores"]) == len(explained["words"]) == 4


@pytest.mark.parametrize("kind", ["fitted", "regressor"])
def test_an_exported_model_answers_as_the_saved_one(kind, request, tmp_path):
    pytest.importorskip("onnxruntime")
    from sk_ulmfit.serving.models import load_served

    model = request.getfixturevalue(kind)
    model.export_onnx(tmp_path / "exported")
    texts = ["My lamp is late", "", "the hub is broken"]
    with TestClient(make_app(model)) as client, TestClient(make_app(load_served(tmp_path / "exported"))) as exported:
        expected, got = (some.post("/predict", json={"texts": texts}).json() for some in (client, exported))
        described = [some.get("/labels").json() for some in (client, exported)]
        status, answer = post(exported, "/explain", {"text": "late"})
    assert described[0] | {"explains": False} == described[1]
    assert status == 422
    assert "no explanations" in answer["error"]
    for one, other in zip(expected["predictions"], got["predictions"], strict=True):
        assert one.get("labels") == other.get("labels")
        key = "probabilities" if kind == "fitted" else "values"
        assert list(one[key].values()) == pytest.approx(list(other[key].values()), abs=1e-4)


def test_several_fields_are_one_text(client):
    _, answer = post(client, "/predict", {"texts": [["lamp", "late"], "lamp late"]})
    joined, plain = (list(prediction["probabilities"].values()) for prediction in answer["predictions"])
    assert joined == FakeModel().predict([join_fields(["lamp", "late"])])[0].tolist()
    assert plain != joined


def test_half_of_a_surrogate_pair_is_a_character_as_it_is_offline(fitted):
    text = "\ud800 My lamp is late"
    with TestClient(make_app(fitted)) as client:
        _, answer = post(client, "/predict", {"texts": [text]})
        status, explained = post(client, "/explain", {"text": text, "labels": ["delivery"]})
    expected = fitted.predict_proba([text])[0]
    assert list(answer["predictions"][0]["probabilities"].values()) == pytest.approx(expected.tolist(), abs=1e-6)
    assert status == 200
    assert explained["text"] == fitted.explain([text], ["delivery"])[0].text


def test_explanations_are_those_of_the_classifier(fitted):
    text = "My lamp is late and the hub is broken"
    expected = fitted.explain([text], ["delivery", "technical"])[0]
    with TestClient(make_app(fitted)) as client:
        answer = client.post("/explain", json={"text": text, "labels": ["delivery", "technical"]}).json()
        by_default = client.post("/explain", json={"text": text}).json()
    assert [word["word"] for word in answer["words"]] == expected.words
    assert [answer["text"][w["begin"] : w["end"]] for w in answer["words"]] == expected.words
    for k, output in enumerate(answer["outputs"]):
        assert output["scores"] == pytest.approx(expected.scores[:, k], abs=1e-6)
        assert output["probability"] == pytest.approx(expected.proba[k], abs=1e-6)
    predicted = fitted.predict_labels([text])[0]
    assert {output["name"] for output in by_default["outputs"]} == set(predicted)


def test_a_text_without_a_label_has_its_most_probable_one_explained():
    model = FakeModel()
    model.thresholds = np.ones(3)
    with TestClient(make_app(model)) as client:
        outputs = client.post("/explain", json={"text": "lamp"}).json()["outputs"]
    proba = model.predict(["lamp"])[0]
    assert [output["name"] for output in outputs] == [model.names[proba.argmax()]]


# Errors


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ("{", 400, "not valid JSON"),
        (b"\xff\xfe", 400, "not valid JSON"),
        ("[" * 100_0, 400, "not valid JSON"),
        ([], 422, "must be a JSON object"),
        ({}, 422, "texts is missing"),
        ({"texts": []}, 422, "at least one"),
        ({"texts": "lamp"}, 422, "texts"),
        ({"texts": ["lamp", 3]}, 422, r"texts\[1\] must be a string"),
        ({"texts": [None]}, 422, r"texts\[0\] must be a string"),
        ({"texts": [["a", 1]]}, 422, r"texts\[0\] must be a string"),
        ({"texts": ["a"], "model": "/etc/passwd"}, 422, "model is not a field"),
        ({"texts": ["a"] * 6}, 413, "There are 6 texts; at most 5"),
        ({"texts": ["a", "b" * 101]}, 413, r"texts\[1\] has 101 characters; at most 100"),
        ({"texts": ["a" * 2000]}, 413, "more than 2,000 bytes"),
    ],
)
def test_a_wrong_request_gets_its_status_and_a_line(client, body, status, words):
    got, answer = post(client, "/predict", body)
    assert got == status
    assert re.search(words, answer["error"])


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ({}, 422, "text is missing"),
        ({"text": 1}, 422, "text must be a string"),
        ({"text": "a", "labels": []}, 422, "1 to 10"),
        ({"text": "a", "labels": ["../../etc/passwd"]}, 422, "is not a label of this model"),
        ({"text": "a", "labels": ["<script>alert(1)</script>"]}, 422, "is not a label of this model"),
        ({"text": "a", "labels": ["x"] * 11}, 422, "1 to 10"),
        ({"text": "a", "method": "magic"}, 422, "method: Input should be 'gradient' or 'occlusion'"),
    ],
)
def test_a_wrong_request_for_an_explanation(client, body, status, words):
    got, answer = post(client, "/explain", body)
    assert got == status
    assert re.search(words, answer["error"])


@pytest.mark.parametrize(
    ("path", "body", "words"),
    [
        ("/predict", '{"texts": [' + "1," * 100_000 + "1]}", r"texts\[0\] must be"),
        ("/predict", '{"texts": [[' + "1," * 100_000 + "1]]}", r"texts\[0\] must be"),
        ("/explain", '{"text": [' + "1," * 100_000 + "1]}", "text must be"),
        ("/explain", '{"text": "a", "labels": [' + "1," * 100_000 + "1]}", r"labels\[0\]"),
        ("/predict", '{"texts": ["a"], ' + ",".join(f'"{k}": 1' for k in range(50_000)) + "}", "0 is not a field"),
    ],
)
def test_a_body_full_of_mistakes_is_refused_at_the_first_one(path, body, words):
    with TestClient(make_app(FakeModel())) as client:
        tracemalloc.start()
        status, answer = post(client, path, body)
        largest = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert status == 422
    assert re.search(words, answer["error"])
    assert largest < 20_000_000  # with an error for each mistake, hundreds of megabytes, and seconds


def test_a_length_of_thousands_of_digits_is_too_large(client):
    assert post(client, "/predict", {}, **{"Content-Length": "9" * 5000})[0] == 413


def test_statuses_of_wrong_paths_methods_and_types(client):
    assert post(client, "/nothing", {})[0] == 404
    assert client.get("/predict").status_code == 405
    assert client.get("/predict").headers["allow"] == "POST"
    assert client.get("/predict").json()["error"].startswith("'/predict' does not answer to 'GET'")
    for content_type in ("text/plain", "application/x-www-form-urlencoded", ""):
        assert post(client, "/predict", {"texts": ["a"]}, **{"Content-Type": content_type})[0] == 415
    assert client.get("/docs").status_code == 404


def test_a_failure_of_the_model_is_told_without_its_details(client, caplog):
    status, answer = post(client, "/predict", {"texts": ["fail"]})
    assert (status, answer["error"]) == (500, "The server failed; its log says why.")
    assert "the model failed" in caplog.text
    assert post(client, "/predict", {"texts": ["fine"]})[0] == 200


def test_a_request_that_takes_too_long_gets_504_and_the_others_go_on():
    with served(FakeModel(), Limits(seconds=0.5)) as url, httpx.Client(base_url=url) as client:
        began = time.perf_counter()
        status, answer = post(client, "/predict", {"texts": ["sleep 1.5" + " " * 5000]})
        assert (status, time.perf_counter() - began < 1.4) == (504, True)
        assert "0.5 seconds" in answer["error"]
        assert post(client, "/predict", {"texts": ["fine"]})[0] == 200  # meanwhile the other thread still sleeps


def test_short_requests_do_not_wait_for_long_ones():
    with served(FakeModel()) as url, httpx.Client(base_url=url) as client, ThreadPoolExecutor(1) as threads:
        long = threads.submit(post, client, "/predict", {"texts": ["sleep 1" + " " * 5000]})
        time.sleep(0.2)
        for _ in range(3):
            assert post(client, "/predict", {"texts": ["short"]})[0] == 200
        assert not long.done()
        assert long.result()[0] == 200


def test_a_full_queue_gets_503_with_retry_after():
    limits = Limits(waiting_explanations=1)
    with served(FakeModel(), limits) as url, httpx.Client(base_url=url) as client, ThreadPoolExecutor(3) as threads:
        running = []
        for k in range(2):  # one that is computed, then one that waits
            running += [threads.submit(post, client, "/explain", {"text": f"sleep 1 {k}", "labels": ["billing"]})]
            time.sleep(0.3)
        while "sk_ulmfit_waiting_texts 1.0" not in client.get("/metrics").text and not running[0].done():
            time.sleep(0.01)
        response = client.post("/explain", json={"text": "third"})
        assert (response.status_code, response.headers["retry-after"]) == (503, "1")
        assert [job.result()[0] for job in running] == [200, 200]


# Access


def test_a_token_is_needed_where_one_is_set():
    with TestClient(make_app(FakeModel(), token=TOKEN)) as client:
        for headers in (
            {},
            {"Authorization": "Bearer wrong"},
            {"Authorization": TOKEN},
            {"Authorization": f"Basic {TOKEN}"},
            {"Authorization": "Bearer ü"},
        ):
            for path in ("/labels", "/metrics", "/openapi.json", "/nothing"):
                assert client.get(path, headers={k: v.encode() for k, v in headers.items()}).status_code == 401
            response = client.post(
                "/predict", json={"texts": ["a"]}, headers={k: v.encode() for k, v in headers.items()}
            )
            assert response.status_code == 401
            assert response.headers["www-authenticate"] == "Bearer"
            assert TOKEN not in response.text
        for path in ("/", "/health", "/static/app.js"):
            assert client.get(path).status_code == 200
        assert client.get("/labels", headers={"Authorization": f"bearer {TOKEN}"}).status_code == 200


@pytest.mark.parametrize("token", ["short", "with a blank in it and long", "ümläute-are-no-token-here", ""])
def test_a_weak_token_is_refused(token):
    with pytest.raises(ValueError, match="at least 16"):
        check_token(token, "file")
    assert check_token(f" {TOKEN}\n", "file") == TOKEN


def test_only_its_own_names_reach_a_server_on_the_loopback_address():
    hosts = allowed_names("127.0.0.1", ["Mail.Example.org"])
    with TestClient(make_app(FakeModel(), hosts=hosts)) as client:
        for host in ("localhost:8000", "127.0.0.1", "LOCALHOST", "[::1]:80", "mail.example.org", "localhost."):
            assert client.get("/labels", headers={"Host": host}).status_code == 200
        for host in ("evil.example", "localhost.evil.example", "127.0.0.1.evil.example:8000", "", "0.0.0.0"):
            response = client.get("/", headers={"Host": host})
            assert response.status_code == 400
            assert "--allow-host" in response.json()["error"]
        for method in ("GET", "HEAD"):  # probes of containers and proxies name an address
            assert client.request(method, "/health", headers={"Host": "10.0.0.7:8000"}).status_code != 400
    with TestClient(make_app(FakeModel(), hosts="Mail.example.org."), base_url="http://mail.example.org") as client:
        assert client.get("/labels").status_code == 200
    for name in ("https://mail.example.org", "mail.example.org:8000", "mail.example.org/", "", None, "a b"):
        with pytest.raises(ValueError, match="a name without scheme"):
            allowed_names("0.0.0.0", [name])
        with pytest.raises(ValueError, match="a name without scheme"):
            make_app(FakeModel(), hosts=[name])
    assert allowed_names("0.0.0.0", []) is None
    assert allowed_names("0.0.0.0", ["a"]) == {"a"}


def test_a_part_of_a_larger_application_has_the_same_rules():
    app = make_app(FakeModel(), token=TOKEN)

    @asynccontextmanager
    async def lifespan(_):
        async with app.router.lifespan_context(app):
            yield

    site = FastAPI(lifespan=lifespan)
    site.mount("/static", app)  # a path that is open to all within it
    bearer = {"Authorization": f"Bearer {TOKEN}"}
    with TestClient(site) as client:
        assert client.get("/static/labels").status_code == 401
        assert [client.get(f"/static{path}").status_code for path in ("/", "/health", "/static/app.js")] == [200] * 3
        assert post(client, "/static/predict", {"texts": ["a"]}, **bearer)[0] == 200
        assert post(client, "/static/predict", {"texts": ["a"]}, **bearer, **{"Content-Type": "text/plain"})[0] == 415
        page = client.get("/static/").text + client.get("/static/static/app.js").text
    assert not re.search("""["']/[a-z]""", page)  # all addresses are relative to the page
    with TestClient(FastAPI()) as client:
        client.app.mount("/mail", make_app(FakeModel()))
        for path, body in (("/mail/predict", {"texts": ["a"]}), ("/mail/explain", {"text": "a"})):
            status, answer = post(client, path, body)
            assert (status, "lifespan" in answer["error"]) == (503, True)


def test_pages_of_other_sites_cannot_ask():
    hosts = allowed_names("127.0.0.1", ["mail.example.org"])
    with TestClient(make_app(FakeModel(), hosts=hosts), base_url="http://localhost:8000") as client:
        for origin in ("http://evil.example", "null", "http://localhost:9999", "https://localhost"):
            assert post(client, "/predict", {"texts": ["a"]}, Origin=origin)[0] == 403
        for origin in ("http://localhost:8000", "https://mail.example.org"):
            assert post(client, "/predict", {"texts": ["a"]}, Origin=origin)[0] == 200
        preflight = client.options(
            "/predict", headers={"Origin": "http://evil.example", "Access-Control-Request-Method": "POST"}
        )
        assert preflight.status_code == 403
        assert not any(name.startswith("access-control") for name in preflight.headers)


def test_every_answer_has_the_security_headers(client):
    for response in (client.get("/"), client.get("/labels"), client.get("/nothing"), client.post("/predict")):
        policy = response.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert response.headers["x-content-type-options"] == "nosniff"
        assert response.headers["x-frame-options"] == "DENY"
        assert "access-control-allow-origin" not in response.headers
    assert client.get("/labels").headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    "path",
    [
        "/static/../app.py",
        "/static/..%2fapp.py",
        "/static/%2e%2e/app.py",
        "/static//etc/passwd",
        "/static/",
        "/static/x.js",
    ],
)
def test_no_path_leads_to_another_file(client, path):
    response = client.get(path)
    assert response.status_code == 404
    assert b"import" not in response.content


def test_the_page_and_its_files(client):
    page = client.get("/")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    named = re.findall(r'(?:src|href)="(static/[^"]+)"', page.text)
    assert len(named) == 3
    for path in named:
        response = client.get(path)
        assert response.status_code == 200
        again = client.get(path, headers={"If-None-Match": response.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
    assert client.head("/").status_code == 200
    assert not re.search(r"https?://(?!www\.w3\.org)", page.text)  # nothing is loaded from elsewhere


# What people look at


def test_health_metrics_and_openapi(client):
    assert client.get("/health").json() == {"status": "ok"}
    post(client, "/predict", {"texts": ["a", "b"]})
    post(client, "/predict", {"texts": []})
    client.get("/secret/../path")
    metrics = client.get("/metrics")
    assert metrics.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert 'sk_ulmfit_requests_total{path="/predict",status="200"} 1.0' in metrics.text
    assert 'sk_ulmfit_requests_total{path="/predict",status="422"} 1.0' in metrics.text
    assert 'sk_ulmfit_requests_total{path="other",status="404"} 1.0' in metrics.text
    assert "sk_ulmfit_texts_total 2.0" in metrics.text
    assert "sk_ulmfit_waiting_texts 0.0" in metrics.text
    assert "process_resident_memory_bytes" in metrics.text
    described = client.get("/openapi.json").json()
    assert set(described["paths"]) == {"/predict", "/explain", "/labels", "/health", "/metrics"}
    assert {"400", "401", "413", "415", "422", "503", "504"} <= set(described["paths"]["/predict"]["post"]["responses"])


def test_only_models_of_this_package_can_be_served():
    from sklearn.dummy import DummyClassifier

    with pytest.raises(ValueError, match="model must be a fitted"):
        make_app(DummyClassifier().fit([[0]], [0]))
    with pytest.raises(ValueError, match="texts must be an integer at least 1"):
        Limits(texts=0)


# Clients that are slow, or speak no HTTP


def raw(url, content, seconds=5.0):
    """Send bytes and return all that comes back until the server closes the connection."""
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=seconds) as connection:
        received = b""
        with suppress(ConnectionError):  # of a client that goes on writing
            connection.sendall(content)
            while part := connection.recv(65536):
                received += part
    return received


HEAD = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"


def test_clients_that_never_finish_are_sent_away():
    with served(FakeModel(), Limits(upload_seconds=0.5)) as url:
        assert b" 408 " in raw(url, b"")
        assert b" 408 " in raw(url, b"POST /predict HTTP/1.1\r\nHost: x\r\nX-Slow: ")
        assert b" 408 " in raw(url, HEAD + b'Content-Length: 100\r\n\r\n{"texts"')
        assert b" 408 " in raw(url, HEAD + b'Transfer-Encoding: chunked\r\n\r\n8\r\n{"texts"\r\n')
        assert httpx.get(f"{url}/health").status_code == 200


def test_a_head_that_drips_is_sent_away_too():
    with served(FakeModel(), Limits(upload_seconds=0.5)) as url:
        host, port = url.removeprefix("http://").split(":")
        began = time.perf_counter()
        with socket.create_connection((host, int(port)), timeout=5) as connection:
            connection.sendall(b"GET / HTTP/1.1\r\n")
            with suppress(OSError):
                while time.perf_counter() - began < 4:
                    connection.sendall(b"X: y\r\n")
                    time.sleep(0.1)
        assert time.perf_counter() - began < 2


def test_what_is_not_http_and_bodies_beyond_the_limit():
    with served(FakeModel(), Limits(body_bytes=1000)) as url:
        assert b" 400 " in raw(url, b"\x16\x03\x01 hello\r\n\r\n")
        assert b" 200 " not in raw(url, b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 1_000_000)
        assert b" 413 " in raw(url, HEAD + b"Content-Length: 99999999999\r\n\r\n")
        chunked = b"".join(b"3e8\r\n" + b"x" * 1000 + b"\r\n" for _ in range(100)) + b"0\r\n\r\n"
        assert b" 413 " in raw(url, HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + chunked)
        assert (
            httpx.post(
                f"{url}/predict", content=b"x" * 3_000_000, headers={"Content-Type": "application/json"}
            ).status_code
            == 413
        )
        assert httpx.get(f"{url}/health").status_code == 200


def test_connections_are_bounded():
    with served(FakeModel(), Limits(connections=3)) as url:
        host, port = url.removeprefix("http://").split(":")
        idle = [socket.create_connection((host, int(port))) for _ in range(3)]
        time.sleep(0.2)
        answer = raw(url, b"")
        assert b" 503 " in answer
        assert b"Retry-After: 1" in answer
        for connection in idle:
            connection.close()
        time.sleep(0.2)
        assert httpx.get(f"{url}/health").status_code == 200


def test_what_a_client_no_longer_waits_for_is_not_computed():
    model = FakeModel()
    with served(model) as url, ThreadPoolExecutor(1) as threads:
        first = threads.submit(httpx.post, f"{url}/predict", json={"texts": ["sleep 1"]})
        time.sleep(0.3)
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(f"{url}/predict", json={"texts": ["gone"]}, timeout=0.3)
        assert first.result().status_code == 200
        assert httpx.post(f"{url}/predict", json={"texts": ["later"]}).status_code == 200
    assert [text for batch in model.batches for text in batch] == ["sleep 1", "later"]


def test_threads_that_predict_and_explain_do_not_disturb_each_other(fitted):
    text = "My lamp is late and the hub is broken"
    expected = fitted.predict_proba([text])[0]
    with served(fitted) as url, httpx.Client(base_url=url) as client, ThreadPoolExecutor(1) as threads:
        explaining = threads.submit(lambda: [post(client, "/explain", {"text": text})[0] for _ in range(5)])
        while not explaining.done():
            _, answer = post(client, "/predict", {"texts": [text]})
            got = np.array(list(answer["predictions"][0]["probabilities"].values()))
            assert np.abs(got - expected).max() < 1e-6
        assert explaining.result() == [200] * 5
