"""One story in a real browser: from the trigger form to the run, the page and the report."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest

from tests.browser.small_airflow import BROKEN, IMAGES
from tests.end_to_end.airflow_runs import INGESTION, AirflowRuns

PATIENCE = 60_000  # ms: a busy machine is slow to show things
A_RUN = 600_000
OFF = f"{INGESTION} is switched off."


@pytest.fixture
def tab(browser: Any, airflow: AirflowRuns) -> Iterator[Any]:
    """Open a tab on Airflow, in which every error of a script is collected."""
    context = browser.new_context(
        base_url=airflow.airflow.url, viewport={"width": 1280, "height": 900}, color_scheme="light"
    )
    context.set_default_timeout(PATIENCE)
    page = context.new_page()
    page.errors = []
    page.on("pageerror", lambda error: page.errors.append(str(error)))
    yield page
    context.close()


# Returns once the document is whole.
LOADED = """() => new Promise(done =>
    document.readyState === "complete" ? done() : addEventListener("load", () => done()))"""


def the_page(tab: Any) -> Any:
    """Open the page by Airflow's menu and return the frame that shows it."""
    tab.goto("/")
    tab.get_by_text("Fruits!", exact=True).first.click()
    frame = tab.frame_locator('iframe[title="Fruits!"]')
    frame.get_by_role("heading", name="Fruits!").wait_for()
    frame.locator("body").evaluate(LOADED)
    return frame


class TestFromTheFormToTheReport:
    """Each test begins where the one before it ended."""

    def test_a_before_the_first_batch_the_page_says_how_to_have_one(self, tab: Any) -> None:
        """The menu has the page; nothing is on or has happened yet, and a link leads to the DAG."""
        frame = the_page(tab)

        assert frame.locator("#cluster .lead").inner_text().strip() == "None alive"
        # As Airflow leaves a new DAG; the other two are on from the start.
        off = frame.get_by_text("is switched off").all_inner_texts()
        assert [one.strip() for one in off] == [OFF]
        frame.get_by_role("link", name="Trigger the ingestion").click()
        tab.wait_for_url(re.compile(rf"/dags/{INGESTION}$"))
        assert tab.errors == []

    def test_b_the_form_starts_a_run(self, tab: Any, airflow: AirflowRuns) -> None:
        """Whoever presses Trigger and fills in the form has a run with these values."""
        airflow.airflow.call("PATCH", f"dags/{INGESTION}", {"is_paused": False})
        tab.goto(f"/dags/{INGESTION}")
        tab.get_by_role("button", name="Trigger").first.click()
        dialog = tab.get_by_role("dialog")
        dialog.get_by_role("button", name="What is computed").click()
        target = dialog.locator('input[name="element_variance_target"]')
        target.fill("0.8")
        target.press("Tab")
        dialog.get_by_role("button", name="Trigger", exact=True).last.click()

        tab.wait_for_url(re.compile("/runs/"))
        run = first_run(airflow)
        assert run["conf"]["variance_target"] == 0.8
        ended = airflow.follow(INGESTION, run["dag_run_id"], A_RUN / 1000)
        assert ended.state == "success", ended.states

    def test_c_the_run_has_buttons(self, tab: Any, airflow: AirflowRuns) -> None:
        """The task featurize leads to its step's logs in the console, report to the report."""
        run_id = quote(first_run(airflow)["dag_run_id"])

        tab.goto(f"/dags/{INGESTION}/runs/{run_id}/tasks/featurize")
        tab.get_by_role("link", name="Details", exact=True).click()
        logs = tab.get_by_role("link", name="EMR logs")
        logs.wait_for()
        tab.get_by_role("link", name="EMR cluster").wait_for()
        assert re.search(r"prefix=logs/j-\w+/steps/s-\w+/$", logs.get_attribute("href"))
        assert tab.get_by_role("link", name="EMR cluster").count() == 1
        tab.goto(f"/dags/{INGESTION}/runs/{run_id}/tasks/report")
        tab.get_by_role("link", name="Details", exact=True).click()
        tab.get_by_role("link", name="Batch report").wait_for()

    def test_d_the_page_shows_the_batch_and_leads_to_its_report(self, tab: Any) -> None:
        """Out of Airflow's frame the report opens in a tab of its own, and is whole."""
        frame = the_page(tab)
        assert "Succeeded" in frame.locator("#last").inner_text()
        assert frame.get_by_text("is switched off").count() == 0
        assert "1 quarantined" in frame.locator("#last").inner_text()
        assert frame.locator("#model ~ .card").count() == 1

        with tab.context.expect_page() as opened:
            frame.locator("#last").get_by_role("link", name="Report").click()
        report = opened.value
        report.wait_for_load_state()

        assert re.search(r"/fruits/batches/\d{8}T\d{6}-[0-9a-f]{8}$", report.url)
        assert f"{IMAGES + 1} images" in report.locator("body").inner_text()
        assert BROKEN in report.locator("body").inner_text()
        assert report.locator("svg.chart").count() == 2
        assert tab.errors == []

    def test_e_the_page_follows_airflows_light_and_dark(self, tab: Any) -> None:
        """Airflow's own switch decides inside its frame, whatever the system prefers."""
        for theme in ("dark", "light"):
            tab.goto("/")
            tab.evaluate(f"localStorage.setItem('theme', '{theme}')")
            the_page(tab)

            frame = tab.frame(url=re.compile(r"//[^/]+/fruits/$"))  # not Airflow's /plugin/fruits/…
            frame.wait_for_function(f"document.documentElement.dataset.theme === '{theme}'")
            shown = frame.evaluate("getComputedStyle(document.documentElement).backgroundColor")
            assert shown == {"dark": "rgb(19, 22, 21)", "light": "rgb(247, 247, 245)"}[theme]

    @pytest.mark.parametrize("width", [320, 390, 768, 1280])
    def test_f_nothing_is_wider_than_the_screen(self, tab: Any, width: int) -> None:
        """On a phone as on a desk the page is read downwards, never sideways."""
        tab.set_viewport_size({"width": width, "height": 800})
        tab.goto("/fruits/")

        too_wide = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        assert tab.evaluate(too_wide) == 0

    def test_g_every_link_is_reached_by_the_keyboard(self, tab: Any) -> None:
        """Tab goes through all links in their order, and each one shows that it has the focus."""
        tab.goto("/fruits/")
        links = tab.locator("a[href]:visible").count()

        reached = []
        for _ in range(links):
            tab.keyboard.press("Tab")
            reached.append(
                tab.evaluate(
                    "[document.activeElement.tagName,"
                    " getComputedStyle(document.activeElement).outlineStyle]"
                )
            )

        assert reached == [["A", "solid"]] * links


def first_run(airflow: AirflowRuns) -> dict[str, Any]:
    """Return the DAG's one run."""
    (run,) = airflow.airflow.call("GET", f"dags/{INGESTION}/dagRuns")["dag_runs"]
    return dict(run)
