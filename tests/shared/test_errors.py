import grpc
import pytest

from services.shared import errors
from services.shared.errors import STATUS_DETAILS_KEY, ApiError, from_rpc_error


class FailedCall:
    def __init__(self, code: grpc.StatusCode, trailing: tuple[tuple[str, bytes], ...] = ()) -> None:
        self._code = code
        self._trailing = trailing

    def code(self) -> grpc.StatusCode:
        return self._code

    def trailing_metadata(self) -> tuple[tuple[str, bytes], ...]:
        return self._trailing


@pytest.mark.parametrize(
    "error",
    [
        errors.invalid_input("name: too long", details={"context": {"field": "name"}}),
        errors.unauthorized(),
        errors.forbidden(),
        errors.not_found("No such threat model."),
        errors.conflict("Changed by somebody else.", "version_mismatch"),
        errors.gone("It is not kept that long."),
        errors.unavailable("The database is busy.", 30),
        ApiError(428, "if_match_required", "If-Match is required."),
    ],
)
def test_an_error_survives_the_way_through_grpc(error: ApiError) -> None:
    call = FailedCall(error.grpc_code, ((STATUS_DETAILS_KEY, error.status_details()),))
    received = from_rpc_error(call)
    assert vars(received) == vars(error)


@pytest.mark.parametrize(
    "code", [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED]
)
def test_a_service_that_cannot_be_reached_is_503_with_retry_after(code: grpc.StatusCode) -> None:
    received = from_rpc_error(FailedCall(code))
    assert (received.status, received.code) == (503, "service_unavailable")
    assert int(received.headers["Retry-After"]) > 0


def test_an_unknown_failure_is_500_without_internal_text() -> None:
    received = from_rpc_error(FailedCall(grpc.StatusCode.INTERNAL))
    assert (received.status, received.code, received.message) == (500, "server_error", "An internal error occurred.")


def test_every_401_names_its_scheme() -> None:
    assert errors.unauthorized().headers["WWW-Authenticate"].startswith("Bearer")


@pytest.mark.parametrize(
    "details",
    [
        {"context": {"fields": [{"field": f"f{n}", "message": "no such member"} for n in range(5000)]}},
        {"context": {"fields": [{"field": "é" * 100_000, "message": "no such member"}]}},
        {"context": {"n" * 100_000: 1}},
        {"context": {f"member {n}": "\U0001f600" * 300 for n in range(300)}},
        {"context": [[[["x" * 100] * 100] * 100] * 10]},
        {"code": "c", "suggestion": "s" * 50_000},
    ],
)
def test_details_are_cut_to_what_metadata_carries(details: dict[str, object]) -> None:
    error = errors.invalid_input("m" * 50_000, details=details)
    assert len(error.status_details()) < 12 * 1024
    received = from_rpc_error(FailedCall(error.grpc_code, ((STATUS_DETAILS_KEY, error.status_details()),)))
    assert vars(received) == vars(error)
    assert len(error.message) == 1000


def test_what_fits_is_not_touched() -> None:
    details = {"code": "c", "context": {"fields": [{"field": "é" * 400}] * 9, "none": None, "n": 1.5}}
    assert errors.invalid_input("ä" * 500, details=details).details == details
    assert errors.invalid_input("ä" * 500).message == "ä" * 500
    assert errors.invalid_input("ä" * 501).message == "ä" * 500
    assert errors.invalid_input("half \ud800").message == "half ?"
