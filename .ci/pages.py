"""Check the built site: ``python .ci/pages.py docs/_build/html``.

The search leads from the name of each parameter of the estimators to their pages. In Chromium, if one is installed,
nothing is cut off in a window of 390 or 1280 pixels: what is wider than its place wraps, or scrolls by itself.
"""

import inspect
import json
import shutil
import sys
from pathlib import Path

import sk_ulmfit

WIDTHS = (390, 1280)
ESTIMATORS = ("ULMFiTMultiLabelClassifier", "ULMFiTRegressor", "ULMFiTLanguageModel", "MultiLabelThresholdTuner")
# Code that is cut off, and elements that reach out of the window where nothing scrolls.
CUT_OFF = """(printed) => {
  const scrolls = (element) => ["auto", "scroll"].includes(getComputedStyle(element).overflowX)
    && !element.matches(".bd-article-container");  // the whole page: that counts as cut off
  const inside = (element) => element && (scrolls(element) || inside(element.parentElement));
  const outputs = ".highlight-output pre, .highlight-text pre, .highlight-none pre, .sphx-glr-script-out pre";
  const code = [...document.querySelectorAll(printed ? "article pre" : `article pre:not(${outputs})`)]
    .filter((pre) => pre.scrollWidth > pre.clientWidth + 1)
    .map((pre) => pre.textContent.split("\\n").reduce((a, b) => (a.length > b.length ? a : b)));
  const outside = [...document.querySelectorAll("article *, header *, footer *, .page-toc *")]
    .filter((element) => element.getBoundingClientRect().right > innerWidth + 1 && !inside(element.parentElement))
    .filter((element) => element.checkVisibility() && element.getBoundingClientRect().width > 1)
    .map((element) => `<${element.localName}> ${element.textContent.trim().slice(0, 60)}`);
  return [...code, ...outside.slice(0, 3)];
}"""


def missing_in_search(folder):
    """Return the parameters from which the search does not lead to their page."""
    text = (folder / "searchindex.js").read_text()
    index = json.loads(text.removeprefix("Search.setIndex(").removesuffix(")"))
    missing = []
    for name in ESTIMATORS:
        page = index["docnames"].index(f"api/generated/sk_ulmfit.{name}")
        for parameter in inspect.signature(getattr(sk_ulmfit, name)).parameters:
            entry = [page, f"sk_ulmfit.{name}.{parameter}", True]
            if entry not in index["indexentries"].get(parameter, []):
                missing.append(f"search: {parameter} of {name} is no entry of the index")
    return missing


def cut_off(folder, chromium):
    """Return what is cut off, page by page."""
    from playwright.sync_api import sync_playwright

    found = []
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page()
        for file in sorted(folder.rglob("*.html")):
            page.goto(file.resolve().as_uri(), wait_until="domcontentloaded")
            for width in WIDTHS:
                page.set_viewport_size({"width": width, "height": 900})
                lines = page.evaluate(CUT_OFF, width > 1000)  # on a phone, printed tables scroll
                found += [f"{file.relative_to(folder)} at {width} pixels: {line}" for line in lines]
        browser.close()
    return found


def main(folder):
    """Print what is wrong; return the exit status."""
    wrong = missing_in_search(folder)
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if chromium:
        wrong += cut_off(folder, chromium)
    else:
        print("NOT CHECKED: what is cut off, since no Chromium is installed (Debian: apt-get install chromium).")
    print(*wrong, sep="\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
