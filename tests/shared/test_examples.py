"""The examples with which every walk over the routes calls an operation."""

import pytest

from services.shared.operations import HttpOperation, http_operations
from tests import examples
from tests.protos import with_rpc

OPERATIONS = list(http_operations())


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.operation_id)
def test_every_operation_has_its_examples(operation: HttpOperation) -> None:
    assert "{" not in examples.path(operation)
    assert (examples.body(operation) is not None) == bool(operation.consumes)
    examples.query(operation)


def test_no_example_is_left_over() -> None:
    assert set(examples.BODIES) == {examples.body_key(each) for each in OPERATIONS if each.consumes}
    assert set(examples.PATH_VALUES) == {name for each in OPERATIONS for name in each.path_parameters}
    assert set(examples.QUERY_VALUES) == {name for each in OPERATIONS for name in examples.query(each)}


def test_a_missing_example_says_where_it_belongs() -> None:
    file = with_rpc(
        'post: "/extra/{odd_key}", body: "body"',
        "access: ACCESS_PUBLIC",
        request="""
            string odd_key = 1;
            google.api.HttpBody body = 2;
            string q = 3 [(tmi.options.v1.parameter).required = true];
        """,
    )
    (operation,) = http_operations([file])
    for missing, example in (
        ("'odd_key' to PATH_VALUES", examples.path),
        ("'do' to BODIES", examples.body),
        ("'q' to QUERY_VALUES", examples.query),
    ):
        with pytest.raises(KeyError, match=rf"do needs an example: add {missing} in tests/examples\.py"):
            example(operation)
    assert examples.path(operation, odd_key="a/b c") == "/extra/a%2Fb%20c"
