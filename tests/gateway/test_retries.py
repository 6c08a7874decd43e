"""Which failures are repeated, how often and how long."""

import grpc
import pytest

from gateway import retries
from services.shared.errors import STATUS_DETAILS_KEY, unavailable

pytestmark = pytest.mark.anyio


def _failure(code: grpc.StatusCode, *, told: bool = False) -> grpc.aio.AioRpcError:
    trailing = grpc.aio.Metadata()
    if told:
        trailing.add(STATUS_DETAILS_KEY, unavailable("no store").status_details())
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), trailing, None, None)


class _Call:
    """Fails with the errors given, one after the other, and then succeeds."""

    def __init__(self, *errors: Exception) -> None:
        self._errors = list(errors)
        self.left: list[float] = []

    async def __call__(self, seconds: float) -> str:
        self.left.append(seconds)
        if self._errors:
            raise self._errors.pop(0)
        return "done"


async def test_what_nobody_answered_is_repeated_within_one_time_out() -> None:
    call = _Call(*[_failure(grpc.StatusCode.UNAVAILABLE)] * (retries.ATTEMPTS - 1))
    assert await retries.repeated(call, 10.0) == "done"
    assert len(call.left) == retries.ATTEMPTS
    assert call.left == sorted(call.left, reverse=True)
    assert max(call.left) <= 10.0


async def test_attempts_end() -> None:
    call = _Call(*[_failure(grpc.StatusCode.UNAVAILABLE)] * 10)
    with pytest.raises(grpc.aio.AioRpcError):
        await retries.repeated(call, 10.0)
    assert len(call.left) == retries.ATTEMPTS


@pytest.mark.parametrize(
    "error",
    [
        _failure(grpc.StatusCode.UNAVAILABLE, told=True),
        _failure(grpc.StatusCode.DEADLINE_EXCEEDED),
        _failure(grpc.StatusCode.INTERNAL),
        ValueError("not of gRPC"),
    ],
    ids=["told by the service", "deadline", "internal", "other"],
)
async def test_an_answer_is_an_answer(error: Exception) -> None:
    call = _Call(error)
    with pytest.raises(type(error)):
        await retries.repeated(call, 10.0)
    assert len(call.left) == 1


async def test_no_attempt_begins_after_the_time_out() -> None:
    call = _Call(*[_failure(grpc.StatusCode.UNAVAILABLE)] * 10)
    with pytest.raises(grpc.aio.AioRpcError):
        await retries.repeated(call, 0.0)
    assert len(call.left) == 1
