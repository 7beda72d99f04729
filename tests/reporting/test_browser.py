"""The site in a real browser, from disk: sorting, filters, links, no errors, no requests."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import Select, WebDriverWait

from rlcondense.comparison.columns import bracketed
from rlcondense.references import BY_ID, FLOORS
from rlcondense.reporting.board import build_board, read_results
from rlcondense.reporting.pages.render import key_of
from rlcondense.reporting.site import build_site
from rlcondense.statistics.intervals import difference, level_means, student_interval
from tests.reporting.boards import GRADMATCH, RANDOM, forge, rich_leaderboard, shipped_leaderboard

CHROMIUM, CHROMEDRIVER = shutil.which("chromium"), shutil.which("chromedriver")

STARPILOT = "procgen/starpilot-easy-v0"
FLOORS_BY_LETTER = {BY_ID[name].letter: BY_ID[name].phrase for name in FLOORS}
KINDS = (
    "index.html",
    "rows.html",
    "methods.html",
    "tasks/procgen-starpilot-easy-v0.html",
    "methods/gradmatch.html",
    f"records/{GRADMATCH}.html",
)
pytestmark = pytest.mark.skipif(
    not ((CHROMIUM and CHROMEDRIVER) or os.environ.get("CI")),
    reason="needs chromium and chromedriver",
)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    leaderboard = rich_leaderboard(tmp_path_factory.mktemp("rich") / "leaderboard")
    out = leaderboard.parent / "site"
    build_site(build_board(read_results(leaderboard / "results")), leaderboard, out)
    return out


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    assert CHROMIUM, "chromium is not installed"
    assert CHROMEDRIVER, "chromedriver is not installed"
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    profile = tmp_path_factory.mktemp("profile")
    for argument in (
        "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
        "--window-size=1360,900", "--disable-background-networking", f"--user-data-dir={profile}",
    ):  # fmt: skip
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(CHROMEDRIVER))
    yield driver
    driver.quit()


@pytest.fixture
def page(browser: webdriver.Chrome, site: Path) -> Iterator[webdriver.Chrome]:
    """The page of all rows; afterwards, whatever was done, no errors and nothing from elsewhere."""
    size = {"width": 1360, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.get("about:blank")
    requests_of(browser)  # those of the browser's own first page
    browser.get((site / "rows.html").as_uri())
    yield browser
    assert browser.get_log("browser") == []
    assert {url.partition(":")[0] for url in requests_of(browser)} <= {"file", "about", "data"}


def requests_of(browser: webdriver.Chrome) -> list[str]:
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    return [
        event["params"]["request"]["url"]
        for event in events
        if event["method"] == "Network.requestWillBeSent"
    ]


def header(browser: webdriver.Chrome, name: str) -> WebElement:
    found = browser.find_elements(By.CSS_SELECTOR, "table.rows thead th")
    return next(th for th in found if th.is_displayed() and th.text.split("\n")[0].strip() == name)


def rows(browser: webdriver.Chrome) -> list[WebElement]:
    found = browser.find_elements(By.CSS_SELECTOR, "[data-board] tbody tr")
    return [row for row in found if row.is_displayed()]


def scores(browser: webdriver.Chrome, split: str = "heldout") -> list[str]:
    script = (
        "return [...document.querySelectorAll('[data-board] tbody tr:not([hidden]) "
        "td.n.' + arguments[0])].map(td => td.dataset.v)"
    )
    return list(browser.execute_script(script, split))


def choose(browser: webdriver.Chrome, name: str, value: str) -> None:
    Select(browser.find_element(By.NAME, name)).select_by_visible_text(value)


def count(browser: webdriver.Chrome) -> str:
    return str(browser.find_element(By.CSS_SELECTOR, "[role=status]").text)


def test_rows_are_sorted_by_score_with_missing_ones_last(page: webdriver.Chrome) -> None:
    button = header(page, "held-out").find_element(By.TAG_NAME, "button")
    for order, down in (("descending", True), ("ascending", False)):
        button.click()
        shown = scores(page)
        known = [float(value) for value in shown if value]
        assert known == sorted(known, reverse=down)
        assert shown[-1] == ""  # the failed one
        assert header(page, "held-out").get_attribute("aria-sort") == order
    assert len(page.find_elements(By.CSS_SELECTOR, "th[aria-sort]")) == 1


def test_names_are_sorted_as_text(page: webdriver.Chrome) -> None:
    header(page, "method").find_element(By.TAG_NAME, "button").click()
    names = [(row.get_attribute("data-method") or "").split(" ")[0] for row in rows(page)]
    assert names == sorted(names)


def test_the_keyboard_sorts_too(page: webdriver.Chrome) -> None:
    button = header(page, "recovery").find_element(By.TAG_NAME, "button")
    page.execute_script("arguments[0].focus()", button)
    # A browser draws the outline for those who use the keyboard, and a click may have come before.
    button.send_keys(Keys.SHIFT, Keys.TAB)
    page.switch_to.active_element.send_keys(Keys.TAB)
    assert page.switch_to.active_element == button
    outline = page.execute_script("return getComputedStyle(arguments[0]).outlineStyle", button)
    assert outline != "none"
    button.send_keys(Keys.ENTER)
    assert header(page, "recovery").get_attribute("aria-sort") == "descending"
    button.send_keys(Keys.TAB)
    assert page.switch_to.active_element.text.strip() == "gain"


def test_filters_count_what_they_leave(page: webdriver.Chrome) -> None:
    every = len(rows(page))
    assert count(page) == f"{every} of {every} rows"
    choose(page, "task", "procgen/coinrun-easy-v0")
    assert count(page) == f"6 of {every} rows" == f"{len(rows(page))} of {every} rows"
    choose(page, "task", "all tasks")
    choose(page, "learner", "discrete-cql")
    assert count(page) == f"9 of {every} rows"  # three, and the policies of two tasks
    choose(page, "learner", "all learners")
    clearing = [row for row in rows(page) if "data-clears" in row.get_property("outerHTML")]
    assert 0 < len(clearing) < every
    page.find_element(By.NAME, "clears").click()
    assert rows(page) == clearing
    page.find_element(By.NAME, "clears").click()
    page.find_element(By.NAME, "method").send_keys("GRADm")
    assert {row.get_attribute("data-method") for row in rows(page)} >= {"gradmatch (iterations=7)"}
    page.find_element(By.NAME, "reset").click()
    assert count(page) == f"{every} of {every} rows"
    choose(page, "track", "without play")
    shown = {row.get_attribute("data-track") for row in rows(page)}
    assert shown == {"offline", ""}  # policies stay


def test_the_split_changes_what_is_shown_and_by_what_it_is_sorted(page: webdriver.Chrome) -> None:
    header(page, "held-out").find_element(By.TAG_NAME, "button").click()
    choose(page, "split", "seen levels")
    assert header(page, "seen").get_attribute("aria-sort") == "descending"
    known = [float(value) for value in scores(page, "seen") if value]
    assert known == sorted(known, reverse=True)
    assert not page.find_element(By.CSS_SELECTOR, "td.heldout").is_displayed()


def test_a_view_has_an_address(page: webdriver.Chrome, site: Path) -> None:
    choose(page, "learner", "bc")
    choose(page, "split", "seen levels")
    header(page, "seen").find_element(By.TAG_NAME, "button").click()
    address, shown = page.current_url, scores(page, "seen")
    assert "learner=bc" in address
    page.get("about:blank")
    page.get(address)
    WebDriverWait(page, 10).until(lambda page: scores(page, "seen") == shown)
    assert Select(page.find_element(By.NAME, "learner")).first_selected_option.text == "bc"


def test_a_hostile_address_does_nothing(page: webdriver.Chrome, site: Path) -> None:
    address = (site / "rows.html").as_uri()
    page.get("about:blank")
    page.get(address + "#task=%3Cscript%3Ealert(1)%3C/script%3E&sort=__proto__&order=x&split=y")
    assert len(rows(page)) == 20
    assert page.find_element(By.CSS_SELECTOR, "td.heldout").is_displayed()


def test_links_lead_from_a_number_to_its_record_task_and_method(page: webdriver.Chrome) -> None:
    page.find_element(By.CSS_SELECTOR, f"td.heldout a[href*='{GRADMATCH}']").click()
    assert GRADMATCH in page.find_element(By.CSS_SELECTOR, ".kind").text
    assert "0.850" in page.find_element(By.TAG_NAME, "main").text
    assert page.find_element(By.CSS_SELECTOR, "svg.histogram").is_displayed()
    page.find_element(By.CSS_SELECTOR, ".meta a[href*='tasks/']").click()
    assert page.find_element(By.TAG_NAME, "h1").text == "procgen/starpilot-easy-v0"
    assert len(page.find_elements(By.CSS_SELECTOR, "svg.plot")) == 3
    assert len(page.find_elements(By.CSS_SELECTOR, "table.matrix")) == 1
    page.find_element(By.CSS_SELECTOR, "table.rows a[href*='methods/gradmatch']").click()
    picture = page.find_element(By.CSS_SELECTOR, ".pictures img")
    page.execute_script("arguments[0].loading = 'eager'", picture)
    assert page.execute_async_script(
        "const [img, done] = arguments; img.decode().then(() => done(img.naturalWidth))", picture
    ) == 20  # fmt: skip


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_is_readable_in_light_and_dark(
    page: webdriver.Chrome, site: Path, scheme: str
) -> None:
    features = [
        {"name": "prefers-color-scheme", "value": scheme},
        {"name": "prefers-reduced-motion", "value": "reduce"},  # no colours on their way
    ]
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    for name in KINDS:
        page.get((site / name).as_uri())
        ratios = page.execute_script(CONTRASTS)
        assert len(ratios) > 50
        assert min(ratios)[0] >= 4.5, (name, min(ratios))
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def test_the_first_page_answers_and_its_choosers_lead_to_views(
    page: webdriver.Chrome, site: Path
) -> None:
    page.get((site / "index.html").as_uri())
    answers = page.find_elements(By.CSS_SELECTOR, ".answers li")
    assert len(answers) == 3
    tables = page.find_elements(By.CSS_SELECTOR, "[data-split]")
    assert [table.is_displayed() for table in tables] == [True, False]
    shown = "[data-split=heldout] tr[data-track]:not([hidden])"
    every = page.find_elements(By.CSS_SELECTOR, shown)
    page.execute_script("arguments[0].dataset.track = 'plays'", every[0])
    choose(page, "track", "without play")
    assert page.find_elements(By.CSS_SELECTOR, shown) == every[1:]
    choose(page, "split", "seen levels")
    choose(page, "learner", "discrete-cql nature 800 updates")
    assert "discrete-cql" in page.find_element(By.TAG_NAME, "h1").text
    assert "#split=seen" in page.current_url
    shown = page.find_element(By.CSS_SELECTOR, "[data-split=seen]")
    assert shown.is_displayed()
    shown.find_element(By.CSS_SELECTOR, "tbody td a[href*='records/']").click()
    assert page.find_element(By.CSS_SELECTOR, ".kind").text.startswith("Record")


def test_columns_are_chosen_and_files_hold_what_is_shown(page: webdriver.Chrome) -> None:
    page.execute_script(CATCH_FILES)
    page.find_element(By.CSS_SELECTOR, ".chooser summary").click()
    box = "//div[@class='choices']//label[contains(., '{}')]/input"
    page.find_element(By.XPATH, box.format("learner")).click()
    page.find_element(By.XPATH, box.format("gap")).click()
    choose(page, "task", "procgen/coinrun-easy-v0")
    for label in ("CSV", "LaTeX"):
        page.find_element(By.XPATH, f"//button[.='{label}']").click()
    csv, tex = page.execute_async_script("Promise.all(window.files).then(arguments[0])")
    head, *lines = csv.splitlines()
    assert head.split(",") == [
        "method", "task", "size", "labels", "held-out", "U M S", "recovery", "gain", "gap",
    ]  # fmt: skip
    assert len(lines) == len(rows(page)) == 6
    assert "coinrun" in lines[0]
    assert tex.count("\\\\") == 7
    assert "U M S & recovery" in tex


def test_ticked_rows_are_compared_level_by_level(page: webdriver.Chrome, site: Path) -> None:
    results = read_results(site.parent / "leaderboard" / "results")
    groups = build_board(results).groups
    group = next(g for g in groups if g.task == STARPILOT and g.learner["id"] == "bc")
    wide, one = (
        next(r for r in group.rows if (r.id, r.size) == k)
        for k in (("random", 150), ("random", 15))
    )
    for row in (wide, one):
        key = key_of(row.cells)
        page.find_element(By.CSS_SELECTOR, f"tr[data-cells$=':{key}'] th input").click()
    page.find_element(By.LINK_TEXT, "Compare 2 rows").click()
    WebDriverWait(page, 5).until(
        lambda p: len(p.find_elements(By.CSS_SELECTOR, "#comparison table")) == 2
    )
    cells = page.find_elements(By.CSS_SELECTOR, "#comparison tbody tr:nth-child(2) td")
    a, b = ([results[cell] for cell in row.cells] for row in (one, wide))
    of_levels = student_interval(level_means(a, "heldout") - level_means(b, "heldout"))
    expected = [difference(a, b, "heldout"), of_levels]
    texts = [bracketed(interval, "{:+.2f}").replace("-", MINUS) for interval in expected]
    assert [cell.text for cell in cells[5:7]] == texts
    assert cells[8].text == "one set: not judged"
    address = page.current_url
    page.get("about:blank")
    page.get(address)
    assert page.find_element(By.CSS_SELECTOR, "#comparison h2").text.startswith(STARPILOT)


def test_a_comparison_stays_within_the_data_that_rows_learned_from(
    page: webdriver.Chrome, tmp_path: Path
) -> None:
    leaderboard = shipped_leaderboard(tmp_path / "leaderboard")
    names = {GRADMATCH: "gradmatch", RANDOM: "random"}
    mixed = "procgen/starpilot-easy/mixed-v0"
    other = [forge(leaderboard, lambda r: r["cell"].update(dataset=mixed), k) for k in names]
    results = read_results(leaderboard / "results")
    build_site(build_board(results, ()), leaderboard, tmp_path / "site")
    own, others = ",".join(names), ",".join(record["cell_id"] for record in other)

    def tables(cells: str) -> list[list[str]]:
        address = (tmp_path / "site" / "compare.html").as_uri()
        page.get("about:blank")
        page.get(f"{address}#procgen-starpilot-easy-v0={cells}")
        WebDriverWait(page, 5).until(
            lambda p: p.find_elements(By.CSS_SELECTOR, "#comparison table")
        )
        found = page.find_elements(By.CSS_SELECTOR, "#comparison table")
        return [
            [cell.text for cell in table.find_elements(By.CSS_SELECTOR, "tbody td:nth-child(2)")]
            for table in found
        ]

    assert tables(f"{own},{others}") == [["expert-v0"] * 2] * 2 + [["mixed-v0"] * 2] * 2
    assert tables(f"{GRADMATCH},{others.split(',')[0]}") == [["expert-v0", "mixed-v0"]] * 2
    assert tables(f"{own},{others.split(',')[0]}") == [["expert-v0"] * 2] * 2
    left_out = page.find_element(By.CSS_SELECTOR, "#comparison p").text
    assert left_out == f"Left out, the only row of its data: gradmatch, {mixed}."


def test_a_row_is_ticked_in_all_tables_that_have_it(page: webdriver.Chrome, site: Path) -> None:
    page.get((site / "index.html").as_uri())
    boxes = page.find_elements(By.CSS_SELECTOR, "[data-split=heldout] tbody th input")
    for box in boxes[:2]:
        box.click()
    choose(page, "split", "seen levels")
    other = page.find_elements(By.CSS_SELECTOR, "[data-split=seen] tbody th input:checked")
    assert len(other) == 2
    links = page.find_elements(By.CSS_SELECTOR, ".board[data-split] a.compare")
    assert [link.get_property("textContent") for link in links] == ["Compare 2 rows"] * 2
    assert len({link.get_attribute("href") for link in links}) == 1
    other[0].click()
    assert [link.get_property("hidden") for link in links] == [True] * 2
    assert sum(box.is_selected() for box in boxes) == 1


def test_a_file_of_no_rows_has_its_header_and_a_phone_leaves_out_no_column(
    page: webdriver.Chrome,
) -> None:
    page.execute_script(CATCH_FILES)
    page.find_element(By.NAME, "method").send_keys("nobody's")
    for label in ("CSV", "LaTeX"):
        page.find_element(By.XPATH, f"//button[.='{label}']").click()
    csv, tex = page.execute_async_script("Promise.all(window.files).then(arguments[0])")
    (head,) = csv.splitlines()
    assert head.startswith("method,task,learner,size")
    assert tex.count("\\\\") == 1
    page.find_element(By.NAME, "reset").click()
    wide = len(_csv(page).splitlines()[1].split(","))
    size = {"width": 360, "height": 740, "deviceScaleFactor": 1, "mobile": True}
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    assert len(_csv(page).splitlines()[1].split(",")) == wide


def _csv(page: webdriver.Chrome) -> str:
    page.execute_script("window.files = []")
    page.execute_script("document.querySelector('.tools .plain').click()")
    return str(page.execute_async_script("Promise.all(window.files).then(arguments[0])")[0])


def test_a_mark_names_the_floor_that_it_is_about(page: webdriver.Chrome) -> None:
    script = """
    const sign = document.querySelector(".ums span[class]");
    sign.dataset.floor = "the constant policy";
    const table = sign.closest("table");
    addTitles(table);
    return every(".ums span[class]", table).map((one) => [one.textContent[0], one.title]);
    """
    (_, first), *others = page.execute_script(script)
    assert first.endswith("the constant policy")
    floors = {FLOORS_BY_LETTER[letter] for letter, _ in others}
    assert len(floors) == 3
    assert all(title.endswith(f" the {FLOORS_BY_LETTER[letter]}") for letter, title in others)


MINUS = "\N{MINUS SIGN}"
CATCH_FILES = """
window.files = [];
URL.createObjectURL = (blob) => { window.files.push(blob.text()); return "#"; };
URL.revokeObjectURL = () => {};
HTMLAnchorElement.prototype.click = () => {};
"""


# Of every piece of text the contrast with the nearest background behind it (WCAG 2).
CONTRASTS = """
const numbers = (colour) => colour.match(/[\\d.]+/g).map(Number);
const light = (colour) => numbers(colour).slice(0, 3)
  .map((v) => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
  .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
function behind(element) {
  for (; element; element = element.parentElement) {
    const colour = getComputedStyle(element).backgroundColor;
    if ((numbers(colour)[3] ?? 1) > 0) return colour;
  }
}
const found = [];
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (walker.nextNode()) {
  const element = walker.currentNode.parentElement;
  if (!walker.currentNode.data.trim() || !element.checkVisibility()) continue;
  const [a, b] = [light(getComputedStyle(element).color), light(behind(element))];
  found.push([(Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), element.outerHTML.slice(0, 80)]);
}
return found;
"""


def test_all_columns_fit_and_no_name_breaks_in_a_word(page: webdriver.Chrome) -> None:
    def widths() -> list[int]:
        frame = page.find_element(By.CSS_SELECTOR, "[data-board] .scroll")
        script = "return [arguments[0].scrollWidth, arguments[0].clientWidth]"
        return list(page.execute_script(script, frame))

    page.find_element(By.CSS_SELECTOR, ".chooser summary").click()
    for box in page.find_elements(By.CSS_SELECTOR, ".choices input:not(:checked)"):
        box.click()
    size = {"width": 1280, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    wide, shown = widths()
    assert wide <= shown
    lines = page.execute_script(LINES, page.find_element(By.CSS_SELECTOR, "td.task a"))
    assert "".join(lines) == STARPILOT
    assert all(line.endswith(("/", "-")) for line in lines[:-1])
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {**size, "width": 800})
    wide, shown = widths()
    assert wide > shown
    WebDriverWait(page, 5).until(lambda p: p.find_elements(By.CSS_SELECTOR, ".scroll.more"))


# The lines of text that an element is broken into.
LINES = """
const range = document.createRange(), lines = new Map();
const walker = document.createTreeWalker(arguments[0], NodeFilter.SHOW_TEXT);
while (walker.nextNode()) {
  const node = walker.currentNode;
  for (let i = 0; i < node.length; i += 1) {
    range.setStart(node, i);
    range.setEnd(node, i + 1);
    const { top } = range.getBoundingClientRect();
    lines.set(top, (lines.get(top) ?? "") + node.data[i]);
  }
}
return [...lines.values()];
"""


def fits(page: webdriver.Chrome, width: int, name: str) -> None:
    """Wait until a page is no wider; a busy machine answers before it is laid out anew."""
    script = "return document.documentElement.scrollWidth"
    WebDriverWait(page, 10).until(lambda page: page.execute_script(script) <= width, name)


def test_no_page_is_wider_than_a_phone(page: webdriver.Chrome, site: Path) -> None:
    size = {"width": 360, "height": 740, "deviceScaleFactor": 1, "mobile": True}
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    for name in KINDS:
        page.get((site / name).as_uri())
        fits(page, 360, name)


def test_printed_pages_are_cut_nowhere(page: webdriver.Chrome, site: Path) -> None:
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    size = {"width": 703, "height": 1000, "deviceScaleFactor": 1, "mobile": False}  # A4, upright
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    try:
        for name in KINDS:
            page.get((site / name).as_uri())
            fits(page, 703, name)
            assert not page.find_element(By.CSS_SELECTOR, ".top").is_displayed()
    finally:
        page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})


def test_without_javascript_it_is_a_plain_table(page: webdriver.Chrome, site: Path) -> None:
    page.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    page.get((site / "tasks" / "procgen-coinrun-easy-v0.html").as_uri())
    try:
        assert not page.find_element(By.CSS_SELECTOR, ".controls").is_displayed()
        assert page.find_element(By.CSS_SELECTOR, "td.heldout").is_displayed()
        assert page.find_element(By.CSS_SELECTOR, "td.seen").is_displayed()
        assert not page.find_elements(By.CSS_SELECTOR, "thead button")
    finally:
        page.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
