"""Declarations that cannot be followed are refused, with a sentence that names the RPC."""

from pathlib import Path

import pytest

from services.shared.declarations import InvalidDeclaration
from services.shared.operations import declared_files, http_operations, operations_of
from tests.protos import compiled, with_rpc

GET = 'get: "/things"'
POST = 'post: "/things", body: "body"'
PUBLIC = "access: ACCESS_PUBLIC"
BODY = "google.api.HttpBody body = 1;"
TEXT = "string text = 1"


@pytest.mark.parametrize(
    ("http", "operation", "request_fields", "problem"),
    [
        (GET, "", "", "no access is declared"),
        (GET, "success_status: 201", "", "no access is declared"),
        (GET, "access: ACCESS_ADMIN_STEP_UP", "", "ACCESS_ADMIN_STEP_UP is not implemented"),
        (GET, "access: ACCESS_AUTHENTICATED_STEP_UP", "", "ACCESS_AUTHENTICATED_STEP_UP is not implemented"),
        (GET, f"{PUBLIC}, rate_tier: RATE_TIER_RESOURCE_OPERATIONS", "", "counts users"),
        (GET, "access: ACCESS_AUTHENTICATED, rate_tier: RATE_TIER_AUTH_FLOWS", "", "counts users"),
        (GET, "access: ACCESS_READER, rate_tier: RATE_TIER_PUBLIC_DISCOVERY", "", "counts users"),
        (GET, f"{PUBLIC}, success_status: 404", "", "404 is no status of a success"),
        (GET, f'{PUBLIC}, consumes: ["text/csv"]', "", "consumes and raw_body are for a body"),
        (GET, f"{PUBLIC}, raw_body: true", "", "consumes and raw_body are for a body"),
        (POST, f"{PUBLIC}, no_head: true", BODY, "no_head and embeds are for GET"),
        (POST, f"{PUBLIC}, embeds: true", BODY, "no_head and embeds are for GET"),
        ('custom: {kind: "LINK", path: "/things"}', PUBLIC, "", "custom verb is not possible"),
        ("", PUBLIC, "", "no verb is not possible"),
        (f'{GET}, response_body: "data"', PUBLIC, "", "response_body is not implemented"),
        (f'{GET}, selector: "x"', PUBLIC, "", "selector has no meaning here"),
        ('post: "/things", body: "*"', PUBLIC, BODY, r"no field \* of type"),
        ('post: "/things", body: "missing"', PUBLIC, BODY, "no field missing of type"),
        ('post: "/things", body: "text"', PUBLIC, f"{TEXT};", "no field text of type"),
        ('post: "/things", body: "bodies"', PUBLIC, "repeated google.api.HttpBody bodies = 1;", "no field bodies"),
        ('get: "/things", body: "body"', PUBLIC, BODY, "GET has no body"),
        (GET, PUBLIC, BODY, "the field body has a type that a parameter cannot have"),
        (GET, PUBLIC, "bytes raw = 1;", "the field raw has a type that a parameter cannot have"),
        ('get: "things"', PUBLIC, "", "is not made of names and {parameters}"),
        ('get: "/things/"', PUBLIC, "", "is not made of names and {parameters}"),
        ('get: "/things:verb"', PUBLIC, "", "is not made of names and {parameters}"),
        ('get: "/things/{text=*}"', PUBLIC, f"{TEXT};", "is not made of names and {parameters}"),
        ('get: "/things/{text}.json"', PUBLIC, f"{TEXT};", "is not made of names and {parameters}"),
        ('get: "/{text}/{text}"', PUBLIC, f"{TEXT};", "names a parameter twice"),
        ('get: "/things/{missing}"', PUBLIC, "", "no field for the path parameter missing"),
        ('get: "/things/{text}"', PUBLIC, f"repeated {TEXT};", "the path parameter text is always there, once"),
        ('get: "/things/{text}"', PUBLIC, f"optional {TEXT};", "the path parameter text is always there, once"),
        *(
            ('get: "/things/{text}"', PUBLIC, f"{TEXT} [(tmi.options.v1.parameter).{option}];", "and from the path")
            for option in ('header = "x"', 'cookie = "x"', 'default_value = "x"', "required = true")
        ),
        *(
            (GET, PUBLIC, f"{field} [(tmi.options.v1.parameter) = {{{options}}}];", problem)
            for field, options, problem in (
                (TEXT, 'header: "x", cookie: "x"', "from a header or from a cookie"),
                (TEXT, "minimum: 1", "text cannot have minimum"),
                (TEXT, "max_items: 1", "text cannot have max_items"),
                (TEXT, "comma_separated: true", "text cannot have comma_separated"),
                (TEXT, "format: FORMAT_UUID, max_length: 3", "text cannot have format, max_length"),
                (TEXT, 'values: ["a"], pattern: "a"', "text cannot have pattern, values"),
                ("int32 number = 1", "max_length: 3", "number cannot have max_length"),
                ("bool flag = 1", 'values: ["true"]', "flag cannot have values"),
            )
        ),
        (f'{GET}, additional_bindings: {{get: "/others"}}', PUBLIC, "", "needs 2 different operation_ids"),
        (f'{GET}, additional_bindings: {{get: "/others"}}', f'{PUBLIC}, operation_ids: ["a", "a"]', "", "needs 2"),
        (f'{GET}, additional_bindings: {{get: "/others"}}', f'{PUBLIC}, operation_ids: ["a", ""]', "", "needs 2"),
        (GET, f'{PUBLIC}, operation_ids: ["a", "b"]', "", "needs 1 different operation_ids"),
        (
            f'{GET}, additional_bindings: {{get: "/a", additional_bindings: {{get: "/b"}}}}',
            f'{PUBLIC}, operation_ids: ["a", "b"]',
            "",
            "a binding inside an additional binding",
        ),
        (
            f'{POST}, additional_bindings: {{delete: "/others"}}',
            f'{PUBLIC}, operation_ids: ["a", "b"]',
            BODY,
            "its bindings have different bodies",
        ),
    ],
)
def test_what_cannot_be_followed_is_refused(http: str, operation: str, request_fields: str, problem: str) -> None:
    method = with_rpc(http, operation, request=request_fields).services_by_name["Example"].methods[0]
    with pytest.raises(InvalidDeclaration, match=problem) as refusal:
        operations_of(method)
    assert f"The declaration of {method.full_name} cannot be used:" in str(refusal.value)


@pytest.mark.parametrize("returns", ["Request", "stream Request"])
def test_an_operation_answers_a_body(returns: str) -> None:
    method = with_rpc(GET, PUBLIC, returns=returns).services_by_name["Example"].methods[0]
    with pytest.raises(InvalidDeclaration):
        operations_of(method)


def test_an_operation_without_a_path_is_refused() -> None:
    file = compiled(
        """
        service Example {
          rpc Do(Request) returns (google.api.HttpBody) {
            option (tmi.options.v1.operation) = {access: ACCESS_PUBLIC};
          }
        }
        message Request {}
        """
    )
    with pytest.raises(InvalidDeclaration, match="describes an operation, but has no path"):
        operations_of(file.services_by_name["Example"].methods[0])


def test_two_rpcs_cannot_have_one_operation_id() -> None:
    files = [with_rpc(GET, PUBLIC), with_rpc('get: "/others"', f'{PUBLIC}, operation_ids: ["do"]')]
    with pytest.raises(InvalidDeclaration, match=r"operation id do is that of .*Example\.Do as well"):
        list(http_operations(files))


def test_every_binding_is_an_operation_of_its_own() -> None:
    file = with_rpc(
        """
        get: "/models/{model_id}/metadata",
        additional_bindings: {get: "/models/{model_id}/threats/{threat_id}/metadata"},
        additional_bindings: {get: "/models/{model_id}/assets/{asset_id}/metadata"}
        """,
        'access: ACCESS_READER, operation_ids: ["ofModel", "ofThreat", "ofAsset"]',
        request="string model_id = 1; string threat_id = 2; string asset_id = 3; int32 limit = 4;",
    )
    operations = list(http_operations([file]))
    assert [(each.operation_id, each.verb, each.path) for each in operations] == [
        ("ofModel", "GET", "/models/{model_id}/metadata"),
        ("ofThreat", "GET", "/models/{model_id}/threats/{threat_id}/metadata"),
        ("ofAsset", "GET", "/models/{model_id}/assets/{asset_id}/metadata"),
    ]
    assert len({each.rpc_path for each in operations}) == 1
    assert [each.path_parameters for each in operations] == [
        ("model_id",),
        ("model_id", "threat_id"),
        ("model_id", "asset_id"),
    ]
    # What another binding takes from its path is no parameter here.
    assert [[field.name for field, _ in each.parameters] for each in operations] == [
        ["model_id", "limit"],
        ["model_id", "threat_id", "limit"],
        ["model_id", "asset_id", "limit"],
    ]


def test_rpcs_may_share_a_message_even_of_another_file() -> None:
    """What is a path parameter is a matter of each RPC."""
    file = compiled(
        """
        import "tmi/threat_model/v1/threat_models.proto";
        service Example {
          rpc GetOne(tmi.threat_model.v1.GetThreatModelRequest) returns (google.api.HttpBody) {
            option (google.api.http) = {get: "/one/{threat_model_id}"};
            option (tmi.options.v1.operation) = {access: ACCESS_READER};
          }
          rpc GetOther(tmi.threat_model.v1.GetThreatModelRequest) returns (google.api.HttpBody) {
            option (google.api.http) = {get: "/other"};
            option (tmi.options.v1.operation) = {access: ACCESS_READER};
          }
        }
        """
    )
    one, other = http_operations([file])
    assert one.path_parameters == ("threat_model_id",)
    assert other.path_parameters == ()
    assert [[field.name for field, _ in each.parameters] for each in (one, other)] == [["threat_model_id"]] * 2


def test_every_proto_file_of_the_project_is_found(project: Path) -> None:
    written = sorted(str(path.relative_to(project / "proto")) for path in (project / "proto").rglob("*.proto"))
    assert [file.name for file in declared_files()] == written
