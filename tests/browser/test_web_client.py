"""What only a browser shows: cookies across ports, preflights, exposed headers, the page's own policy."""

import functools
import http.server
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from selenium.webdriver import Chrome, ChromeOptions, ChromeService
from selenium.webdriver.common.by import By
from selenium.webdriver.support.wait import WebDriverWait

from deploy.embedded.stack import Stack

CHROMIUM = shutil.which("chromium")
DRIVER = shutil.which("chromedriver")

pytestmark = [
    pytest.mark.xdist_group("browser"),
    pytest.mark.skipif(
        not (CHROMIUM and DRIVER),
        reason="no Chromium with its driver (on Debian: apt install chromium chromium-driver)",
    ),
]


class ClientPage(http.server.BaseHTTPRequestHandler):
    """The test's web client: one page on every path."""

    def __init__(self, page: bytes, *arguments: Any) -> None:
        self.page = page
        super().__init__(*arguments)

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.end_headers()
        self.wfile.write(self.page)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def origin() -> Iterator[str]:
    page = Path(__file__).with_name("client.html").read_bytes()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(ClientPage, page))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://localhost:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory, origin: str) -> Iterator[str]:
    settings = {
        "TMI_CORS_ALLOWED_ORIGINS": origin,
        "TMI_OAUTH_CLIENT_CALLBACK_ALLOWLIST": f"{origin}/oauth2/callback",
    }
    with Stack(tmp_path_factory.mktemp("browser") / "stack", settings=settings, durable=False) as stack:
        yield stack.gateway_urls[0]


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    options = ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for argument in (
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        f"--user-data-dir={tmp_path_factory.mktemp('chromium')}",
    ):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = Chrome(options, ChromeService(str(DRIVER)))
    driver.set_script_timeout(30)
    yield driver
    driver.quit()


def wait(browser: Chrome, text: str) -> None:
    WebDriverWait(browser, 20).until(lambda driver: text in driver.current_url and driver.title == "ready")


def run(browser: Chrome, expression: str) -> Any:
    """The value of an awaited JavaScript expression of the page."""
    script = (
        "const done = arguments[arguments.length - 1];"
        f"(async () => {expression})().then(done, (error) => done('failed: ' + error));"
    )
    return browser.execute_async_script(script)


def complaints(browser: Chrome) -> list[str]:
    """What the console holds against the page, such as blocked requests."""
    entries: list[dict[str, str]] = browser.get_log("browser")  # type: ignore[no-untyped-call]
    return [entry["message"] for entry in entries if "favicon" not in entry["message"]]


def test_a_person_logs_in_and_draws_with_cookies_only(browser: Chrome, api: str, origin: str) -> None:
    browser.get(f"{origin}/?api={api}")
    wait(browser, origin)
    assert run(browser, "(await call('GET', '/me')).status") == 401
    browser.execute_script("login('browser-user')")
    wait(browser, "/oauth2/callback?")
    assert run(browser, "await finishLogin()") == 200
    assert run(browser, "(await call('GET', '/me')).body.provider_id") == "browser-user"

    drawn = run(browser, "await draw()")
    assert drawn["emptyState"] == []
    assert drawn["people"] == ["browser-user"]
    assert drawn["stored"] == [drawn["sent"]]
    assert drawn["vector"] == 1
    assert (drawn["ended"], drawn["code"]) == (204, 1000)

    created = run(browser, "await call('POST', '/threat_models', {name: 'With an entity tag'})")
    assert created["etag"] == '"1"'
    assert "tmi_access_token" not in browser.execute_script("return document.cookie")

    assert run(browser, "(await call('POST', '/me/logout')).status") == 204
    assert run(browser, "(await call('GET', '/me')).status") == 401
    assert not [text for text in complaints(browser) if "401" not in text]


def test_the_root_page_shows_the_state_under_its_own_policy(browser: Chrome, api: str) -> None:
    browser.get(api)
    body = browser.find_element(By.TAG_NAME, "body")
    assert "TMI" in body.text
    assert "ok" in body.text
    assert body.value_of_css_property("margin") != "8px", "the page's style sheet was not applied"
    assert complaints(browser) == []
