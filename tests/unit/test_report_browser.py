"""The report's page in a real headless Chromium: it works, plays, fits a phone and says no error.

Skipped where there is no Chromium (`apt-get install chromium`) or no Playwright.
"""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.unit.report_browser import (
    CHROMIUM,
    CLASSES,
    PHONE,
    QUIET,
    WIDE,
    Built,
    build_report,
    canvas_colours,
    luminance,
    shown,
)

sync_api = pytest.importorskip("playwright.sync_api")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium on this machine")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """A report on disk."""
    return build_report(tmp_path_factory.mktemp("report"))


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def wide(browser: Any, built: Built) -> Iterator[Any]:
    """One page for all tests that do not mind what the others did with it."""
    with shown(browser, built.url, WIDE) as page:
        yield page


@pytest.fixture(scope="module")
def phone(browser: Any, built: Built) -> Iterator[Any]:
    """The same on a phone, in the dark."""
    with shown(browser, built.url, PHONE, color_scheme="dark") as page:
        yield page


def column(page: Any, table: str, place: int) -> list[str]:
    """What the rows that are shown have in a column."""
    script = """([table, place]) => [...document.querySelectorAll(`${table} tbody tr`)]
        .filter((row) => !row.hidden).map((row) => row.cells[place].textContent.trim())"""
    found: list[str] = page.evaluate(script, [table, place])
    return found


# Tables


def test_a_click_on_a_heading_sorts_by_numbers_and_another_turns_it_round(wide: Any) -> None:
    wide.locator("#per-class thead button").nth(2).click()
    falling = [float(text) for text in column(wide, "#per-class", 2)]
    assert falling == sorted(falling, reverse=True)
    assert len(set(falling)) > 10
    wide.locator("#per-class thead button").nth(2).click()
    assert [float(text) for text in column(wide, "#per-class", 2)] == sorted(falling)
    wide.locator("#per-class thead button").nth(0).click()
    assert column(wide, "#per-class", 0) == sorted(CLASSES)
    heads = wide.locator("#per-class thead th")
    assert heads.nth(0).get_attribute("aria-sort") == "ascending"
    assert heads.nth(2).get_attribute("aria-sort") is None


def test_the_switch_shows_other_measures_of_the_same_rows(wide: Any, built: Built) -> None:
    wide.get_by_role("button", name="recall", exact=True).click()
    recall = {row["name"]: row["recall"] for row in built.json["systems"][0]["per_class"]}
    rows = zip(column(wide, "#per-class", 0), column(wide, "#per-class", 2), strict=True)
    assert {name: float(text) for name, text in rows} == pytest.approx(
        {name: 100 * value for name, value in recall.items()}, abs=0.051
    )


def test_words_and_choices_filter_a_table_together(wide: Any) -> None:
    tools = wide.locator("#failures .tools").last
    rows = len(column(wide, "#failure-list", 0))
    assert rows == 30
    tools.get_by_label("Only one error").select_option("no_audio")
    assert set(column(wide, "#failure-list", 3)) == {"no_audio"}
    tools.get_by_role("searchbox").fill("bad1")
    names = [text.partition("/")[0] for text in column(wide, "#failure-list", 0)]
    assert names == ["bad12", "bad15", "bad18"]
    assert tools.locator("output").text_content() == "3 of 30"
    tools.get_by_role("searchbox").fill("")
    tools.get_by_label("Only one error").select_option("")
    assert len(column(wide, "#failure-list", 0)) == rows


def test_every_table_of_more_than_a_few_rows_can_be_filtered(wide: Any) -> None:
    long = wide.evaluate(
        """[...document.querySelectorAll("table")]
        .filter((table) => table.tBodies[0].rows.length > 15)
        .map((table) => [table.className, table.classList.contains("sortable"),
            (table.closest(".scroll").previousElementSibling?.className ?? "")])"""
    )
    assert len(long) >= 3
    for name, sortable, before in long:
        if "splits" in name.split():
            continue  # a chart in rows, which shows of many classes the ends only
        assert sortable, name
        assert "tools" in before.split(), name


# Clips


def test_players_can_play_and_pictures_are_there(wide: Any, built: Built) -> None:
    page = wide
    players = page.locator("audio[id]")
    assert players.count() == len(built.played) == 8
    seconds = page.evaluate(
        """() => Promise.all([...document.querySelectorAll("audio[id]")].map((audio) =>
            new Promise((resolve, reject) => {
                audio.addEventListener("canplay", () => resolve(audio.duration));
                audio.addEventListener("error", () => reject(audio.error.message));
                audio.preload = "auto";
                audio.load();
            })))"""
    )
    assert seconds == pytest.approx([1.0] * 8, abs=0.2)
    sizes = page.evaluate(
        """() => Promise.all([...document.querySelectorAll(".clip img[id]")].map(
            (image) => image.decode().then(() => image.naturalWidth)))"""
    )
    assert sizes == [128] * 8


def test_a_clip_in_a_second_list_plays_there_too(wide: Any) -> None:
    page = wide
    found = page.evaluate(
        """[...document.querySelectorAll("[data-same]")].map((copy) =>
            [copy.hidden, copy.src === document.getElementById(copy.dataset.same).src])"""
    )
    assert found
    assert {tuple(pair) for pair in found} == {(False, True)}


def test_starting_one_player_stops_the_other(wide: Any) -> None:
    page = wide
    playing = page.evaluate(
        """async () => {
            const [first, second] = document.querySelectorAll("audio[id]");
            for (const audio of [first, second]) { audio.muted = true; audio.loop = true; }
            await first.play();
            await second.play();
            return [first.paused, second.paused];
        }"""
    )
    assert playing == [True, False]


# Confusions


def test_the_map_of_confusions_is_drawn_and_tells_what_is_under_the_pointer(
    wide: Any, built: Built
) -> None:
    page = wide
    canvas = page.locator("canvas")
    canvas.scroll_into_view_if_needed()
    page.wait_for_timeout(150)
    assert canvas_colours(page) > 10
    box = canvas.bounding_box()
    inside, tip = box["width"] - 134, page.locator(".tip")
    page.mouse.move(box["x"] + 132 + inside / 80, box["y"] + 7 + inside / 80)
    tip.wait_for(state="visible")
    told = tip.text_content()
    name = told.partition(":")[0]
    place = CLASSES.index(name)
    row = built.json["systems"][0]["confusion"][place]
    assert told.startswith(f"{name}: {row[place]} of {sum(row)}")
    page.mouse.move(5, 5)
    tip.wait_for(state="hidden")


def test_a_class_can_be_searched_in_the_map(wide: Any, built: Built) -> None:
    page = wide
    page.get_by_label("Find a class in the map").fill("class c3")
    about = page.locator("[data-about]")
    about.get_by_text("is taken for", exact=True).wait_for()
    place = CLASSES.index("class c3")
    row = built.json["systems"][0]["confusion"][place]
    assert f"class c3: {row[place]} of {sum(row)} clips right" in about.text_content()
    others = {CLASSES[n]: clips for n, clips in enumerate(row) if clips and n != place}
    listed = about.locator("ol").first.locator("li").all_text_contents()
    assert {text.rpartition(" ")[0]: int(text.rpartition(" ")[2]) for text in listed}.items() <= (
        others.items()
    )
    assert len(listed) == min(8, len(others))
    page.get_by_label("Find a class in the map").fill("no such class")
    assert page.get_by_label("Find a class in the map").get_attribute("aria-invalid") == "true"


# Curves


def test_curves_are_those_of_the_chosen_class(wide: Any, built: Built) -> None:
    page = wide
    path = page.locator('[data-curves] path[data-system="0"][data-key="roc"]')
    before = path.get_attribute("d")
    page.get_by_label("Class that the curves are of").select_option("class b2")
    after = path.get_attribute("d")
    assert len({before, after, ""}) == 3
    cells = page.locator('[data-curves] tr[data-system="0"] td').all_text_contents()
    own = built.json["systems"][0]["per_class"][CLASSES.index("class b2")]
    assert [float(text) for text in cells[:3]] == pytest.approx(
        [own["support"], 100 * own["roc_auc"], 100 * own["average_precision"]], abs=0.06
    )
    page.get_by_label("Class after").click()
    assert page.locator("[data-of]").text_content() == "class b3"
    page.get_by_label("Class that the curves are of").select_option("")
    assert path.get_attribute("d") is not None
    assert page.locator("[data-of]").text_content() == "all classes"


def test_thresholds_are_those_of_the_chosen_system(wide: Any) -> None:
    page = wide
    drawn = """[...document.querySelectorAll("[data-curves] path[data-key='f']")]
        .map((path) => path.getAttribute("d") !== "")"""
    page.get_by_label("System that the thresholds are of").select_option("1")
    assert page.evaluate(drawn) == [False, True, False]
    page.get_by_label("System that the thresholds are of").select_option("0")
    assert page.evaluate(drawn) == [True, False, False]


# The page as a whole


def test_tabs_fold_and_links_open_what_they_lead_to(wide: Any, built: Built) -> None:
    page = wide
    clips = page.locator("#clips")
    clips.get_by_role("tab", name="video").click()
    assert clips.locator("> .tabs > .tab").nth(0).is_hidden()
    assert clips.locator("> .tabs > .tab").nth(1).is_visible()
    folded = page.locator("audio[id]").last.get_attribute("id")
    page.evaluate("(id) => { location.hash = id; }", folded)
    page.locator(f"#{folded}").wait_for(state="visible")
    closed = page.locator("details:not([open]) table[id]").first.get_attribute("id")
    page.evaluate("(id) => { location.hash = id; }", closed)
    page.locator(f"#{closed}").wait_for(state="visible")


@pytest.mark.parametrize("width", [320, PHONE[0], 700, WIDE[0]])
def test_the_page_never_scrolls_sideways(phone: Any, width: int) -> None:
    page = phone
    page.set_viewport_size({"width": width, "height": 900})
    page.add_style_tag(content="section { content-visibility: visible !important }")
    page.evaluate("document.querySelectorAll('details').forEach((part) => { part.open = true; })")
    needed, loose = page.evaluate(
        """[document.documentElement.scrollWidth, [...document.querySelectorAll("table")].filter(
            (table) => table.offsetWidth && !table.closest(".scroll")).length]"""
    )
    page.set_viewport_size({"width": PHONE[0], "height": PHONE[1]})
    assert needed == width
    assert loose == 0  # a table that is too wide scrolls within its own frame


@pytest.mark.parametrize("where", ["wide", "phone"])
def test_text_stands_out_and_is_large_enough(where: str, request: pytest.FixtureRequest) -> None:
    page = request.getfixturevalue(where)
    ground, texts = page.evaluate(
        """[getComputedStyle(document.body).backgroundColor,
        [".verdict", ".lead", ".summary li", "td", "thead th", ".note"].map((name) => {
            const style = getComputedStyle(document.querySelector(name));
            return [name, style.color, parseFloat(style.fontSize)];
        })]"""
    )
    assert (luminance(ground) < 0.1) == (where == "phone")  # which is in the dark
    for name, colour, size_px in texts:
        lighter, darker = sorted((luminance(ground), luminance(colour)), reverse=True)
        assert (lighter + 0.05) / (darker + 0.05) > 4.5, name
        assert size_px >= 12, name


def test_the_map_can_be_used_on_a_phone(phone: Any) -> None:
    canvas = phone.locator("canvas")
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    assert box["width"] > 250
    assert canvas_colours(phone) > 10
    before = canvas.screenshot()
    phone.get_by_label("Zoom in").click()
    phone.wait_for_timeout(100)
    assert canvas.screenshot() != before
    assert canvas.evaluate("(canvas) => canvas.style.touchAction") == "none"
    phone.get_by_role("button", name="all", exact=True).click()
    assert canvas.evaluate("(canvas) => canvas.style.touchAction") == "pan-y"


def test_without_its_script_the_page_shows_everything(browser: Any, built: Built) -> None:
    with shown(browser, built.url, WIDE, java_script_enabled=False) as page:
        assert page.locator("#clips .tab:visible").count() == page.locator("#clips .tab").count()
        assert page.locator("#per-class tbody tr:visible").count() == len(CLASSES)
        assert page.locator("#failure-list tbody tr:visible").count() == 30
        assert page.locator("[data-heat]:visible, .js-only:visible, select:visible").count() == 0
        assert page.locator("#curves svg.lines:visible").count() >= 4
        assert page.locator(".pairs:visible").count() == 3


def test_no_script_but_its_own_runs(browser: Any, built: Built) -> None:
    page = browser.new_page()
    page.goto(built.url)
    ran = page.evaluate(
        """() => new Promise((resolve) => {
            document.addEventListener("securitypolicyviolation", () => resolve(window.ran));
            const script = document.createElement("script");
            script.textContent = "window.ran = true";
            document.body.append(script);
            setTimeout(() => resolve(window.ran), 2000);
        })"""
    )
    page.close()
    assert ran is None
