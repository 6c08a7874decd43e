"""HTTP to identity providers: bounded in time and size, and never led elsewhere.

An answer of more than LARGEST_ANSWER_BYTES, a compressed one (whose size nobody knows) and a redirect are
errors. Proxies of the environment (HTTPS_PROXY, NO_PROXY) are used.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any

import httpx
import orjson

from services.auth.providers.provider import ProviderFailure, invalid_answer, unavailable

LARGEST_ANSWER_BYTES = 1024 * 1024
TIMEOUT_SECONDS = 5.0
"""For the connection, and for each part of an answer."""
LONGEST_ANSWER_SECONDS = 10.0

_SERVER_ERROR = 500


class _Unacceptable(Exception):
    """An answer that is not read."""


class _BoundedStream(httpx.SyncByteStream):
    def __init__(self, stream: httpx.SyncByteStream) -> None:
        self._stream = stream
        self._ends = time.monotonic() + LONGEST_ANSWER_SECONDS

    def __iter__(self) -> Iterator[bytes]:
        size = 0
        for part in self._stream:
            size += len(part)
            if size > LARGEST_ANSWER_BYTES:
                raise _Unacceptable(f"the answer is larger than {LARGEST_ANSWER_BYTES} bytes")
            if time.monotonic() > self._ends:
                raise httpx.ReadTimeout(f"the answer took longer than {LONGEST_ANSWER_SECONDS:g} seconds")
            yield part

    def close(self) -> None:
        self._stream.close()


def _bound(response: httpx.Response) -> None:
    if response.is_redirect:
        raise _Unacceptable("the answer is a redirect")
    if response.headers.get("content-encoding", "identity") != "identity":
        raise _Unacceptable("the answer is compressed, which was not asked for")
    assert isinstance(response.stream, httpx.SyncByteStream)
    response.stream = _BoundedStream(response.stream)


class Upstream:
    """What all providers share: the connections, and how many threads may wait for providers at once."""

    def __init__(self, most_waiting: int) -> None:
        self._slots = threading.BoundedSemaphore(max(1, most_waiting))
        self.session = httpx.Client(
            timeout=TIMEOUT_SECONDS,
            follow_redirects=False,
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),  # logins share the client, not a session
            headers={"Accept": "application/json", "Accept-Encoding": "identity", "User-Agent": "tmi"},
            event_hooks={"response": [_bound]},
        )

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Holds one of the threads that may wait. A slow provider must not take those that serve everybody else.

        Raises ProviderFailure when all of them do.
        """
        if not self._slots.acquire(blocking=False):
            raise unavailable("too many logins are waiting for identity providers")
        try:
            yield
        finally:
            self._slots.release()

    def get_json(self, url: str, bearer: str = "") -> Any:
        """The JSON value at the URL, asked for with an access token if there is one. Raises ProviderFailure."""
        headers = {"Authorization": f"Bearer {bearer}"} if bearer else {}
        with failures(url):
            response = self.session.get(url, headers=headers)
            if response.status_code != httpx.codes.OK:
                raise _wrong_status(url, response.status_code)
            return orjson.loads(response.content)

    def get_object(self, url: str, bearer: str = "") -> dict[str, Any]:
        """The JSON object at the URL. Raises ProviderFailure."""
        value = self.get_json(url, bearer)
        if not isinstance(value, dict):
            raise invalid_answer(f"{where(url)} answered JSON that is no object")
        return value


@contextmanager
def failures(url: str) -> Iterator[None]:
    """Turns whatever goes wrong in an exchange with this URL into a ProviderFailure."""
    try:
        yield
    except ProviderFailure:
        raise
    except httpx.HTTPStatusError as error:
        raise _wrong_status(url, error.response.status_code) from error
    except _Unacceptable as error:
        raise invalid_answer(f"{where(url)}: {error}") from error
    except httpx.TimeoutException as error:
        raise unavailable(f"{where(url)} did not answer in time") from error
    except httpx.HTTPError as error:
        raise unavailable(f"{where(url)} cannot be reached ({type(error).__name__})") from error
    except (ValueError, TypeError) as error:
        raise invalid_answer(f"{where(url)} answered what cannot be read ({type(error).__name__})") from error


def _wrong_status(url: str, status: int) -> ProviderFailure:
    is_passing = status >= _SERVER_ERROR or status == httpx.codes.TOO_MANY_REQUESTS
    return (unavailable if is_passing else invalid_answer)(f"{where(url)} answered {status}")


def where(url: str) -> str:
    """The URL without its query, for a log line."""
    return url.partition("?")[0]
