from typing import Annotated, Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import AfterValidator

from services.shared.errors import ApiError
from services.threat_model.children.threats import ThreatBody
from services.threat_model.diagrams.declaration import DiagramCreateBody, DiagramPatchBody, DiagramReplaceBody
from services.threat_model.models.bodies import PatchedThreatModel, ThreatModelBody
from services.threat_model.resources import bodies
from services.threat_model.resources.bodies import (
    Body,
    Description,
    Metadata,
    Name,
    UuidReference,
    WebUri,
    documented_spelling,
)


class Sample(Body):
    name: Name = "x"
    description: Description = None
    uri: WebUri = None
    reference: UuidReference = None
    metadata: Metadata | None = None
    kind: Annotated[str | None, AfterValidator(documented_spelling("in_progress", "Out-of-Cycle", "STRIDE"))] = None


def field_at_fault(model: type[Body], document: dict[str, Any]) -> str:
    with pytest.raises(ApiError) as caught:
        bodies.validate(model, document)
    assert (caught.value.status, caught.value.code) == (400, "invalid_input")
    named: str = caught.value.details["context"]["fields"][0]["field"]
    assert caught.value.message.startswith(named)
    return named


@pytest.mark.parametrize(
    "name", ["A & B", "it's", "a < b", '"quoted"', "on = x", "<script>", "SELECT", "x" * 256, "日本"]
)
def test_names_keep_what_the_user_typed(name: str) -> None:
    assert bodies.validate(Sample, {"name": name}).name == name


@pytest.mark.parametrize("name", ["", "x" * 257, "two\nlines", "nul\x00", 5, None, ["x"]])
def test_bad_names_are_refused_by_name(name: Any) -> None:
    assert field_at_fault(Sample, {"name": name}) == "name"


def test_a_description_has_lines_and_an_empty_one_is_none() -> None:
    assert bodies.validate(Sample, {"description": "a\n\tb\r\n<b>"}).description == "a\n\tb\r\n<b>"
    assert bodies.validate(Sample, {"description": ""}).description is None
    assert field_at_fault(Sample, {"description": "x" * 2049}) == "description"
    assert field_at_fault(Sample, {"description": "\x07"}) == "description"


@pytest.mark.parametrize(
    ("uri", "stored"),
    [
        ("https://issues.example.com/A-1?x=1#y", "https://issues.example.com/A-1?x=1#y"),
        (" http://host:8080 ", "http://host:8080"),
        ("", None),
        (None, None),
    ],
)
def test_web_uris(uri: str | None, stored: str | None) -> None:
    assert bodies.validate(Sample, {"uri": uri}).uri == stored


@pytest.mark.parametrize("uri", ["javascript:alert(1)", "ftp://x", "https://", "https://a b", "https://-x", "x" * 1001])
def test_other_uris_are_refused(uri: str) -> None:
    assert field_at_fault(Sample, {"uri": uri}) == "uri"


def test_references_are_canonical_uuids() -> None:
    text = "0A2B3C4D-0000-4000-8000-00000000ABCD"
    assert bodies.validate(Sample, {"reference": text}).reference == text.lower()
    assert bodies.validate(Sample, {"reference": ""}).reference is None
    assert field_at_fault(Sample, {"reference": "{" + text + "}"}) == "reference"


def test_metadata_is_sorted_and_its_keys_are_unique_and_addressable() -> None:
    entries = [{"key": "b.c:d_e-1", "value": "x"}, {"key": "a", "value": "y = 'z' {{}}"}]
    assert bodies.validate(Sample, {"metadata": entries}).members()["metadata"] == entries[::-1]
    assert field_at_fault(Sample, {"metadata": [entries[0], entries[0]]}) == "metadata"
    for bad in ({"key": "a/b", "value": "x"}, {"key": "a" * 129, "value": "x"}, {"key": "", "value": "x"}):
        assert field_at_fault(Sample, {"metadata": [bad]}) == "metadata.0.key"
    assert field_at_fault(Sample, {"metadata": [{"key": "a", "value": ""}]}) == "metadata.0.value"
    assert field_at_fault(Sample, {"metadata": [{"key": "a", "value": "x" * 1025}]}) == "metadata.0.value"
    assert field_at_fault(Sample, {"metadata": [{"key": "a", "value": "x", "z": 1}]}) == "metadata.0.z"
    assert field_at_fault(Sample, {"metadata": [{"key": f"k{i}", "value": "x"} for i in range(101)]}) == "metadata"


@pytest.mark.parametrize(
    ("text", "stored"),
    [
        ("In Progress", "in_progress"),
        ("inProgress", "in_progress"),
        ("IN_PROGRESS", "in_progress"),
        ("stride", "STRIDE"),
        ("out-of-cycle", "Out-of-Cycle"),
        ("Something Else", "Something Else"),
        ("", None),
        (None, None),
    ],
)
def test_known_values_are_stored_in_the_documented_spelling(text: str | None, stored: str | None) -> None:
    assert bodies.validate(Sample, {"kind": text}).kind == stored


@pytest.mark.parametrize(
    "body", [b"", b"null", b"[]", b"{", b'"x"', b'{"a":"\\ud800"}', b"{} {}", b"\xff", b'{"a":1e999}']
)
def test_a_body_that_is_no_json_object_is_refused(body: bytes) -> None:
    with pytest.raises(ApiError) as caught:
        bodies.parse_object(body)
    assert (caught.value.status, caught.value.code) == (400, "invalid_input")


def test_at_most_ten_fields_are_named() -> None:
    with pytest.raises(ApiError) as caught:
        bodies.validate(ThreatBody, {"name": "x", "cwe_id": ["bad"] * 50})
    assert len(caught.value.details["context"]["fields"]) == 10


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("threat_type", "Spoofing"),
        ("threat_type", ["a", "a"]),
        ("threat_type", [""]),
        ("threat_type", [str(i) for i in range(21)]),
        ("severity", "x" * 51),
        ("priority", 5),
        ("score", 10.1),
        ("score", -0.1),
        ("score", 7.55),
        ("score", "7.5"),
        ("score", True),
        ("mitigated", "yes"),
        ("mitigated", 1),
        ("mitigation", "x" * 1025),
        ("cwe_id", ["CWE-"]),
        ("cwe_id", ["cwe-12"]),
        ("cwe_id", ["CWE-12", "CWE-12"]),
        ("cvss", [{"vector": "short", "score": 1}]),
        ("cvss", [{"vector": "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H", "score": 1, "x": 1}]),
        ("cvss", {}),
        ("ssvc", {"vector": "x", "decision": "Never", "methodology": "x"}),
        ("ssvc", {"vector": "x", "decision": ["Defer"], "methodology": "x"}),
        ("ssvc", []),
        ("diagram_id", "not-a-uuid"),
        ("cell_id", 5),
        ("issue_uri", "mailto:x"),
        ("include_in_report", 0),
    ],
)
def test_threats_with_a_bad_field_are_refused_by_name(field: str, value: Any) -> None:
    assert field_at_fault(ThreatBody, {"name": "x", field: value}).startswith(field)


def test_scores_are_tenths() -> None:
    assert [bodies.validate(ThreatBody, {"name": "x", "score": s}).score for s in (0, 10, 0.3, 9.8)] == [
        0,
        10,
        0.3,
        9.8,
    ]


@pytest.mark.parametrize(
    "field", ["owner", "status", "project_id", "security_reviewer", "version", "id", "alias", "zzz"]
)
def test_the_threat_model_body_is_closed(field: str) -> None:
    assert field_at_fault(ThreatModelBody, {"name": "x", field: None}) == field


@pytest.mark.parametrize(
    ("framework", "stored"),
    [("", "STRIDE"), (None, "STRIDE"), ("linddun", "LINDDUN"), ("PLOT4AI", "PLOT4ai"), ("Own-1", "Own-1")],
)
def test_frameworks(framework: str | None, stored: str) -> None:
    assert (
        bodies.validate(ThreatModelBody, {"name": "x", "threat_model_framework": framework}).threat_model_framework
        == stored
    )


_ENTRY = {
    "principal_type": "USER",
    "provider": "tmi",
    "provider_id": "bob",
    "role": "Reader",
    "display_name": "ignored",
}


def test_authorization_entries() -> None:
    (entry,) = bodies.validate(ThreatModelBody, {"name": "x", "authorization": [_ENTRY]}).authorization or []
    assert (str(entry.principal), entry.role, entry.level) == ("user tmi:bob", "reader", 1)


@pytest.mark.parametrize(
    "change",
    [
        {"role": "admin"},
        {"principal_type": "robot"},
        {"provider": "1x"},
        {"provider_id": "", "email": ""},
        {"provider_id": "x" * 501},
        {"email": "no-at"},
    ],
)
def test_bad_authorization_entries_are_refused(change: dict[str, Any]) -> None:
    named = field_at_fault(ThreatModelBody, {"name": "x", "authorization": [_ENTRY | change]})
    assert named.startswith("authorization.0")


def test_the_same_principal_twice_is_refused() -> None:
    twice = [_ENTRY, _ENTRY | {"role": "writer"}]
    assert field_at_fault(ThreatModelBody, {"name": "x", "authorization": twice}) == "authorization"


def test_palettes_are_expanded_and_sorted() -> None:
    body = {"name": "x", "type": "dfd-1.0.0", "cells": []}
    palette = [{"position": 2, "color": "#ABC"}, {"position": 1, "color": "#A1B2C3"}]
    diagram = bodies.validate(DiagramReplaceBody, body | {"color_palette": palette})
    assert diagram.type == "DFD-1.0.0"
    assert diagram.members()["color_palette"] == [
        {"position": 1, "color": "#a1b2c3"},
        {"position": 2, "color": "#aabbcc"},
    ]
    for bad in ([palette[0]] * 2, [{"position": 9, "color": "#abc"}], [{"position": 1, "color": "red"}]):
        assert field_at_fault(DiagramReplaceBody, body | {"color_palette": bad}).startswith("color_palette")


@pytest.mark.parametrize(
    "image", [{"svg": "not base64!"}, {"svg": "/w=="}, {"svg": "A" * 102_404}, {"png": ""}, {"update_vector": -1}, "x"]
)
def test_bad_images_are_refused(image: Any) -> None:
    assert field_at_fault(
        DiagramReplaceBody, {"name": "x", "type": "DFD-1.0.0", "cells": [], "image": image}
    ).startswith("image")


def test_a_new_diagram_has_a_name_and_a_type_and_nothing_else() -> None:
    assert field_at_fault(DiagramCreateBody, {"name": "x", "type": "DFD-2"}) == "type"
    assert field_at_fault(DiagramCreateBody, {"name": "x", "type": "DFD-1.0.0", "description": "d"}) == "description"


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@pytest.mark.parametrize(
    "model", [ThreatBody, ThreatModelBody, PatchedThreatModel, DiagramReplaceBody, DiagramPatchBody]
)
@given(st.data())
def test_any_json_is_accepted_or_refused_with_a_field(model: type[Body], data: st.DataObject) -> None:
    names = st.sampled_from(sorted(model.model_fields))
    document = data.draw(st.dictionaries(names, _json)) | data.draw(
        st.sampled_from([{}, {"name": "x", "type": "DFD-1.0.0"}])
    )
    try:
        members = bodies.validate(model, document).members()
    except ApiError as error:
        assert (error.status, error.code) == (400, "invalid_input")  # noqa: PT017
    else:
        assert members["name"] == document["name"]
        if model is ThreatBody:
            orjson.dumps(members)
