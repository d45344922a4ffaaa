"""The page of ``sk-ulmfit serve`` in a real browser, where one is installed."""

import csv
import io
import re
import shutil
import time
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("fastapi")
pytest.importorskip("playwright")

from playwright import sync_api
from serving_models import FakeModel, number, served

from sk_ulmfit.thresholds import decide

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")

STYLE = Path(__file__).parents[1] / "sk_ulmfit" / "serving" / "page" / "style.css"
TEXT = "Where is my parcel and who pays the invoice"
MARKUP = "<img src=x onerror=window.hacked=1><script>window.hacked=1</script>"
TOKEN = "a-token-for-the-tests-only"


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser):
    """Open the page of a model; in the end nothing was said on the console, and nothing left this machine."""
    closing, said = [], []

    def start(model=None, path="/", width=1280, height=900, scheme="light", **options):
        server = served(model or FakeModel(), **options)
        url = server.__enter__()
        context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
        context.set_default_timeout(8_000)
        page = context.new_page()
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("dialog", lambda dialog: said.append(dialog.message))
        page.on("request", lambda request: None if request.url.startswith((url, "blob:")) else said.append(request.url))
        closing.extend([context.close, lambda: server.__exit__(None, None, None)])
        page.goto(url + path)
        return page

    start.said = said
    yield start
    for close in closing:
        close()
    assert said == []


def until(page, expression, seconds=10):
    """Wait until an expression is true; playwright's own way would need a policy that allows eval."""
    end = time.monotonic() + seconds
    while not page.evaluate(expression):
        assert time.monotonic() < end, expression
        page.wait_for_timeout(20)


def eventually(check, seconds=10):
    """Wait until something holds: the page draws what has changed a moment later."""
    end = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < end, "it did not become true"
        time.sleep(0.02)


def write(page, text=TEXT):
    page.get_by_role("textbox", name="Text").fill(text)
    until(page, "document.querySelector('#list b').textContent !== ''")


def decision(page):
    return page.locator("#decision").inner_text()


def names_in(page):
    return page.locator("#list .name").all_inner_texts()


def drop(page, content, name="mail.csv"):
    page.locator("#file").set_input_files({"name": name, "mimeType": "text/csv", "buffer": content})


def predicted_table(page, content, name="mail.csv"):
    drop(page, content, name)
    until(page, "document.querySelector('#table-status').textContent.includes('predicted')")


def download(page):
    with page.expect_download() as waiting:
        page.get_by_role("button", name="Download as CSV").click()
    return list(csv.reader(io.StringIO(Path(waiting.value.path()).read_bytes().decode("utf-8-sig"))))


def test_the_labels_follow_the_text(open_page):
    model, page = FakeModel(), open_page()
    eventually(lambda: decision(page) == "No text yet.")
    write(page)
    proba = model.predict([TEXT])[0]
    order = np.argsort(-proba)
    eventually(lambda: names_in(page) == [model.names[k] for k in order])
    eventually(lambda: page.locator("#list b").all_inner_texts() == [f"{proba[k]:.2f}" for k in order])
    labels = [name for name, flag in zip(model.names, model.decide(proba[None])[0], strict=True) if flag]
    eventually(lambda: decision(page) == "Predicted: " + ", ".join(labels))
    page.get_by_role("textbox", name="Text").fill("")
    until(page, "document.querySelector('#decision').textContent === 'No text yet.'")


def test_decisions_follow_a_threshold_at_once(open_page):
    model, page = FakeModel(), open_page()
    write(page)
    until(page, "document.querySelectorAll('#marked span').length > 0")
    page.route("**/*", lambda route: route.abort())  # from here on without the server
    slider = page.get_by_role("slider", name="Threshold of billing")
    p = model.predict([TEXT])[0][0]
    slider.focus()
    page.keyboard.press("Home")
    eventually(lambda: slider.get_attribute("aria-valuetext") == f"0.00; probability {p:.2f}, predicted")
    eventually(lambda: "billing" in decision(page))
    page.keyboard.press("End")
    until(page, "!document.querySelector('#decision').textContent.includes('billing')")
    page.keyboard.press("ArrowLeft")
    until(page, "document.activeElement.getAttribute('aria-valuetext').startsWith('0.99')")
    page.keyboard.press("PageDown")
    until(page, "document.activeElement.getAttribute('aria-valuetext').startsWith('0.89')")
    page.get_by_role("button", name="Reset thresholds").click()
    eventually(lambda: slider.get_attribute("aria-valuetext").startswith("0.40"))
    eventually(lambda: not page.get_by_role("button", name="Reset thresholds").is_visible())


def test_a_threshold_can_be_dragged(open_page):
    page = open_page()
    write(page)
    slider = page.get_by_role("slider", name="Threshold of delivery")
    box = slider.bounding_box()
    inner = box["width"] - 16  # half a thumb on each side
    y = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + 8 + 0.5 * inner, y)
    page.mouse.down()
    page.mouse.move(box["x"] + 8 + 0.8 * inner, y, steps=5)
    page.mouse.up()
    eventually(lambda: float(slider.input_value()) == pytest.approx(0.8, abs=0.02))
    bar = page.locator("#list .row", has=slider).locator(".bar").bounding_box()
    assert box["x"] + 8 == pytest.approx(bar["x"], abs=1)  # the mark of 0 is at the left end of the bar
    assert inner == pytest.approx(bar["width"], abs=1)


def test_words_have_the_colour_of_the_label_chosen(open_page):
    page = open_page()
    write(page)
    page.get_by_role("button", name="technical").click()
    until(page, "document.querySelector('#words-status').textContent.includes('technical')")
    eventually(lambda: page.get_by_role("combobox", name="Label to explain").input_value() == "2")
    scores = {word: 4 * number(f"2 {word}") - 2 for word in TEXT.split()}
    strong = {word: score for word, score in scores.items() if abs(score) > 0.08 * max(map(abs, scores.values()))}
    marked = page.locator("#marked span")
    eventually(lambda: marked.all_inner_texts() == [word for word in TEXT.split() if word in strong])
    assert marked.evaluate_all("spans => spans.map(span => span.className)") == [
        "for" if strong[word] > 0 else "against" for word in marked.all_inner_texts()
    ]
    eventually(lambda: page.locator("#marked").inner_text() == TEXT)
    best = max(scores, key=scores.get)
    eventually(lambda: page.locator("#strongest dd").first.inner_text().startswith(f"{best} +"))
    page.get_by_role("combobox", name="Label to explain").select_option("billing")
    until(page, "document.querySelector('#words-status').textContent.includes('billing')")
    eventually(lambda: page.get_by_role("button", name="billing", pressed=True).count() == 1)


def test_the_page_works_below_a_path_of_a_larger_application(browser):
    from contextlib import asynccontextmanager

    from fastapi import FastAPI
    from starlette.testclient import TestClient

    from sk_ulmfit.serving import make_app

    app = make_app(FakeModel())

    @asynccontextmanager
    async def lifespan(_):
        async with app.router.lifespan_context(app):
            yield

    site = FastAPI(lifespan=lifespan)
    site.mount("/mail", app)
    page = browser.new_page(base_url="http://mail.example")
    with TestClient(site, base_url="http://mail.example") as client:

        def answer(route):
            request = route.request
            got = client.request(request.method, request.url, content=request.post_data, headers=request.headers)
            route.fulfill(status=got.status_code, headers=dict(got.headers), body=got.content)

        page.route("**/*", answer)
        page.goto("/mail/")
        write(page)
        page.get_by_role("button", name="technical").click()
        until(page, "document.querySelector('#words-status').textContent.includes('technical')")
        page.close()


def test_fields_are_not_taken_for_a_text_with_commas(open_page):
    page = open_page(FakeModel(metadata={"text": ["subject", "body"]}))
    write(page, "lamp,late")
    until(page, "document.querySelector('#strongest').textContent.includes('lamp')")
    predicted_table(page, b"subject,body\nlamp,late\n")
    with page.expect_request("**/explain") as asked:
        page.locator("button.open").click()
    assert asked.value.post_data_json["text"] == ["lamp", "late"]


def test_words_beyond_the_basic_plane_keep_their_places(open_page):
    page = open_page()
    write(page, "😀😀 lamp 😀 broken")
    until(page, "document.querySelectorAll('#marked span').length > 0")
    eventually(lambda: set(page.locator("#marked span").all_inner_texts()) <= {"lamp", "broken"})


def test_a_keyboard_is_enough(open_page):
    page = open_page()
    visited = []

    def tab_to(name):
        for _ in range(60):
            page.keyboard.press("Tab")
            here = page.evaluate(
                "(e => [e.getAttribute('aria-label') || e.labels?.[0]?.textContent.trim() || e.textContent.trim(), "
                "getComputedStyle(e).outlineStyle !== 'none', e.getBoundingClientRect().width > 0])(document.activeElement)"
            )
            visited.append(here)
            assert here[1:] == [True, True], here  # the focus is seen
            if here[0] == name:
                return
        raise AssertionError(f"{name} is not reached: {visited}")

    tab_to("Skip to the text")
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "text"
    page.keyboard.type(TEXT)
    until(page, "document.querySelectorAll('#marked span').length > 0")
    tab_to("Open a table (CSV)")
    tab_to("delivery")
    page.keyboard.press("Enter")
    until(page, "document.querySelector('#words-status').textContent.includes('delivery')")
    tab_to("Threshold of delivery")
    page.keyboard.press("Home")
    until(page, "document.querySelector('#decision').textContent.includes('delivery')")
    tab_to("Label to explain")
    page.keyboard.type("technical")
    until(page, "document.querySelector('#words-status').textContent.includes('technical')")
    assert [name for name, _, _ in visited].count("") == 0


def test_what_a_screen_reader_hears(open_page):
    page = open_page()
    write(page)
    until(page, "document.querySelectorAll('#marked span').length > 0")
    heard = page.locator("body").aria_snapshot()
    for line in (
        'textbox "Text"',
        'combobox "Label to explain"',
        'heading "Labels" [level=2]',
        'slider "Threshold of billing"',
        "status: ",
        'region "Words"',
        "button",
    ):
        assert line in heard, line
    eventually(lambda: page.locator("[role=status], [role=alert]").count() == 4)
    assert (
        page.locator("input:visible, select:visible, textarea:visible, button:visible").evaluate_all(
            "all => all.filter(e => !(e.getAttribute('aria-label') || e.labels?.length || e.textContent.trim())).length"
        )
        == 0
    )


def test_a_table_is_labelled_and_downloaded(open_page):
    model = FakeModel(metadata={"text": ["subject", "body"], "delimiter": "|"})
    page = open_page(model)
    rows = [[str(k), f"case {k}", f'the "lamp", number {k}\nis late'] for k in range(60)]
    content = io.StringIO()
    csv.writer(content).writerows([["id", "subject", "body"], *rows])
    predicted_table(page, content.getvalue().encode())
    eventually(lambda: page.get_by_role("checkbox", name="subject").is_checked())
    eventually(lambda: page.get_by_role("checkbox", name="body").is_checked())
    eventually(lambda: not page.get_by_role("checkbox", name="id").is_checked())
    eventually(lambda: page.locator("#rows tr").count() == 25)
    eventually(lambda: page.locator("#page-number").inner_text() == "1 to 25 of 60")
    from sk_ulmfit.text import join_fields

    proba = model.predict([join_fields(row[1:]) for row in rows])
    labels = [[n for n, f in zip(model.names, flags, strict=True) if f] for flags in model.decide(proba)]
    header, *written = download(page)
    assert header == ["id", "subject", "body", "predicted_labels", *(f"proba_{name}" for name in model.names)]
    assert [row[:3] for row in written] == [[*row] for row in rows]
    assert [row[3].split("|") if row[3] else [] for row in written] == labels
    assert [row[4:] for row in written] == [[f"{p:.6f}" for p in row] for row in proba]

    page.get_by_role("combobox", name="Rows").select_option("with delivery")
    n_delivery = sum("delivery" in some for some in labels)
    eventually(lambda: page.locator("#page-number").inner_text().endswith(f"of {n_delivery}"))
    eventually(lambda: f"{n_delivery} rows" in page.locator("#list .row", has_text="delivery").inner_text())
    page.get_by_role("slider", name="Threshold of delivery").focus()
    page.keyboard.press("Home")
    until(page, "document.querySelector('#page-number').textContent.endsWith('of 60')")
    page.get_by_role("button", name="Next").click()
    eventually(lambda: page.locator("#page-number").inner_text() == "26 to 50 of 60")
    page.locator("#rows .open").first.click()
    until(page, "document.querySelector('#text').value.startsWith('case 25')")
    expected = proba[25]
    until(page, f"[...document.querySelectorAll('#list b')].some(b => b.textContent === '{expected.max():.2f}')")


def test_a_table_can_be_dropped(open_page):
    page = open_page()
    transfer = page.evaluate_handle(
        "() => { const t = new DataTransfer(); t.items.add(new File(['text;n\\nlamp late;1\\n'], 'x.csv')); return t; }"
    )
    page.dispatch_event("body", "dragover", {"dataTransfer": transfer})
    eventually(lambda: page.get_by_text("Drop the table to open it").is_visible())
    page.dispatch_event("body", "drop", {"dataTransfer": transfer})
    until(page, "document.querySelector('#table-status').textContent === '1 row predicted.'")
    eventually(lambda: not page.get_by_text("Drop the table to open it").is_visible())
    eventually(lambda: page.get_by_role("checkbox", name="text").is_checked())


FORMULAS = ["=1+1", "+cmd|' /C calc'!A0", "@SUM(1)", "-2+3", " =1", "\t=1"]


def test_cells_that_would_be_formulas_are_guarded(open_page):
    page = open_page(FakeModel(names=["=HYPERLINK(1)", "b", "c"]))
    numbers = ["-5", "+3.5", "-1e-3", "plain"]
    content = io.StringIO()
    csv.writer(content).writerows([["text", "@x"], *([f"lamp {k}", cell] for k, cell in enumerate(FORMULAS + numbers))])
    predicted_table(page, content.getvalue().encode())
    header, *rows = download(page)
    assert header[1] == "'@x"
    assert [row[1] for row in rows] == ["'" + cell for cell in FORMULAS] + numbers
    assert all(row[2] == "" or row[2][0] not in "=+-@" for row in rows)
    page.get_by_role("checkbox", name="safe in spreadsheets").uncheck()
    assert [row[1] for row in download(page)[1:]] == FORMULAS + numbers


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "The table is empty"),
        (b"text\n", "no rows"),
        (b'text\n"lamp\n', "never closed"),
        (b"text\nlamp,late\n", "Row 1 has 2 cells"),
    ],
)
def test_what_is_wrong_with_a_table_is_said(open_page, content, words):
    page = open_page()
    drop(page, content)
    page.get_by_role("alert").wait_for()
    eventually(lambda: words in page.get_by_role("alert").inner_text())


def test_tables_are_read_as_python_reads_them(open_page):
    page = open_page()
    parse = """async ([bytes]) => {
      const { decode, parseTable } = await import("/static/csv.js");
      const table = parseTable(decode(new Uint8Array(bytes).buffer));
      return [table.columns, ...table.rows];
    }"""
    rows = [["a", "b b", "c"], ["1", 'say "x", y', "two\nlines"], ["", "ä€😀", " s "], ["=1", "'", '"']]
    for options in ({}, {"delimiter": ";"}, {"delimiter": "\t"}, {"quoting": csv.QUOTE_ALL}, {"lineterminator": "\n"}):
        content = io.StringIO()
        csv.writer(content, **options).writerows(rows)
        for encoding in ("utf-8", "utf-8-sig", "utf-16"):
            assert page.evaluate(parse, [list(content.getvalue().encode(encoding))]) == rows
    assert page.evaluate(parse, [list("a\nKäse\n".encode("cp1252"))]) == [["a"], ["Käse"]]


def test_decisions_on_the_page_are_those_of_python(open_page):
    page = open_page()
    rng = np.random.default_rng(0)
    script = """async ([rows, thresholds, rule]) => {
      const { decide } = await import("/static/decide.js");
      return rows.map((row) => decide(row, thresholds, rule).map(Number));
    }"""
    for top_k, at_least_one in [(None, False), (None, True), (2, False)]:
        proba = np.round(rng.random((50, 4)) ** 3, 2)
        proba[:2] = [0, 1, 0.5, 0.5], [0.1] * 4
        thresholds = np.array([0.5, 0.4, 0.95, 0.5])
        rule = {"top_k": top_k, "at_least_one": at_least_one}
        got = page.evaluate(script, [proba.tolist(), thresholds.tolist(), rule])
        assert got == decide(proba, thresholds, **rule).tolist()


def test_markup_in_texts_labels_and_tables_stays_text(open_page):
    model = FakeModel(names=[MARKUP, "../../etc/passwd", "javascript:alert(1)"])
    page = open_page(model)
    write(page, MARKUP)
    until(page, "document.querySelectorAll('#marked span').length > 0")
    content = io.StringIO()
    csv.writer(content).writerows([[MARKUP, "b"], [MARKUP, "x"], [MARKUP, "y"]])
    predicted_table(page, content.getvalue().encode(), f"{MARKUP[:30]}.csv")
    eventually(lambda: page.locator("#marked").inner_text() == MARKUP)
    eventually(lambda: MARKUP in names_in(page))
    eventually(lambda: page.locator("#rows .open").first.inner_text() == MARKUP)
    assert page.evaluate("window.hacked") is None
    eventually(lambda: page.locator("img, main script, iframe, object").count() == 0)


def test_many_labels_stay_usable(open_page):
    model = FakeModel(names=[f"label {k}" for k in range(120)])
    page = open_page(model)
    write(page)
    proba = model.predict([TEXT])[0]
    top = [model.names[k] for k in np.argsort(-proba, kind="stable")[:20]]
    eventually(lambda: names_in(page) == top)
    eventually(lambda: page.locator("#rest-count").inner_text() == "20 of 120 are shown.")
    page.get_by_role("searchbox", name="Find").fill("LABEL 11")
    eventually(lambda: sorted(names_in(page)) == sorted(name for name in model.names if "label 11" in name))
    page.get_by_role("searchbox", name="Find").fill("nothing")
    eventually(lambda: page.locator("#rest-count").inner_text() == "No name contains this.")
    page.get_by_role("searchbox", name="Find").fill("")
    page.get_by_role("combobox", name="Sort by").select_option("name")
    eventually(lambda: names_in(page)[:3] == ["label 0", "label 1", "label 2"])
    page.get_by_role("button", name="Show more").click()
    eventually(lambda: len(names_in(page)) == 60)
    assert page.evaluate("document.activeElement.textContent") == "label 20"


def test_a_fixed_number_of_labels_has_no_thresholds(open_page):
    model = FakeModel(top_k=2)
    page = open_page(model)
    write(page)
    eventually(lambda: page.get_by_role("slider").count() == 0)
    names = [model.names[k] for k in np.sort(np.argsort(-model.predict([TEXT])[0])[:2])]
    eventually(lambda: decision(page) == "Predicted: " + ", ".join(names))


def test_values_have_their_range(open_page):
    class FakeRegressor(FakeModel):
        kind, top_k, explains = "regressor", None, False

    model = FakeRegressor(["stars", "length"])
    model.thresholds, model.ranges = None, [(0.0, 1.0), (0.0, np.inf)]
    page = open_page(model)
    write(page)
    eventually(lambda: page.get_by_role("heading", name="Values").is_visible())
    eventually(lambda: page.get_by_role("slider").count() == 0)
    eventually(
        lambda: (
            sorted(map(float, page.locator("#list b").all_inner_texts())) == sorted(model.predict([TEXT])[0].tolist())
        )
    )
    eventually(lambda: page.locator(".bar").count() == 1)
    eventually(lambda: not page.locator("#words").is_visible())
    predicted_table(page, b"text\nlamp\n")
    header, row = download(page)
    assert header == ["text", "value_stars", "value_length"]
    assert list(map(float, row[1:])) == model.predict(["lamp"])[0].tolist()


def test_a_token_is_asked_for_and_kept(open_page):
    page = open_page(token=TOKEN)
    field = page.get_by_label("Token", exact=True)
    field.fill("wrong-wrong-wrong-wrong")
    page.keyboard.press("Enter")
    until(page, "document.querySelector('#token').value === ''")
    page.get_by_role("dialog").wait_for()
    field.fill(TOKEN)
    page.get_by_role("button", name="Continue").click()
    page.get_by_role("dialog").wait_for(state="hidden")
    write(page)
    page.reload()
    write(page)
    eventually(lambda: not page.get_by_role("dialog").is_visible())
    assert all("401" in text for text in open_page.said)  # which the browser itself notes
    open_page.said.clear()


def test_errors_of_the_server_are_said(open_page):
    from sk_ulmfit.serving import Limits

    page = open_page(limits=Limits(characters=50))
    page.get_by_role("textbox", name="Text").fill("long " * 20)
    page.get_by_role("alert").wait_for()
    eventually(
        lambda: page.get_by_role("alert").inner_text() == "texts[0] has 100 characters; at most 50 are accepted."
    )
    write(page, "short")
    eventually(lambda: not page.get_by_role("alert").is_visible())
    page.route("**/predict", lambda route: route.abort())
    page.get_by_role("textbox", name="Text").fill("other")
    page.get_by_role("alert").wait_for()
    eventually(lambda: "does not answer" in page.get_by_role("alert").inner_text())
    open_page.said.clear()  # which the browser itself notes


@pytest.mark.parametrize("width", [320, 390, 768, 1280])
def test_nothing_is_wider_than_the_screen(open_page, width):
    long = "Donaudampfschifffahrtsgesellschaft" * 6
    page = open_page(FakeModel(names=[long, "b", *(f"label {k}" for k in range(30))]), width=width, height=844)
    write(page, long + " " + TEXT)
    until(page, "document.querySelectorAll('#marked span').length > 0")
    predicted_table(page, f"text,{long}\n{long},1\nlamp,2\n".encode(), long[:150] + ".csv")
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def luminance(colour):
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    parts = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]


def contrast(a, b):
    light, dark = sorted((luminance(a), luminance(b)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_colours_have_enough_contrast(scheme):
    block = re.findall(r":root \{(.*?)\}", STYLE.read_text(), re.DOTALL)[scheme]
    colours = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", block))
    texts = [(ink, paper) for ink in ("ink", "quiet", "accent") for paper in ("paper", "card", "soft")]
    texts += [("ink", "track"), ("bad", "bad-soft"), ("on-accent", "accent"), ("paper", "ink")]
    assert {
        pair: contrast(*(colours[name] for name in pair))
        for pair in texts
        if contrast(*(colours[name] for name in pair)) < 4.5
    } == {}
    graphics = [
        ("bar", "card"),
        ("accent", "card"),
        ("thumb", "track"),
        ("for", "card"),
        ("against", "card"),
        ("quiet", "card"),
    ]
    assert {pair for pair in graphics if contrast(*(colours[name] for name in pair)) < 3} == set()
