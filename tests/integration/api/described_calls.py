"""Calls that name a thing, made from the OpenAPI document: a new route is tried as it is described.

A thing is named in the path, in a property of the body, or in a parameter of the query; what else a
call needs is filled in from its schema. A path with an unknown parameter fails the test that asks.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

JSON, FORM = "application/json", "multipart/form-data"
SAMPLES: dict[str, Any] = {"string": "hi", "boolean": False, "array": [], "object": {}}
TEXT = "content"  # does by itself, where nothing is required
LISTS = {"attachments": "file_id"}  # properties that hold ids of things
NO_THINGS = {"user": "somebody"}  # parameters of paths that name no thing of anybody's


@dataclass(frozen=True)
class DescribedCall:
    """A request whose texts hold `{thread_id}` and the like, to be filled in."""

    method: str
    path: str
    body: dict[str, Any] | None = None
    query: dict[str, str] = field(default_factory=dict[str, str])
    media_type: str = JSON

    @property
    def must_be_missing(self) -> bool:
        """Whether nothing but 404 will do: a filter of a list may find nothing instead."""
        return not self.query

    def request(self, ids: Mapping[str, str]) -> dict[str, Any]:
        """What httpx is to send."""
        filled = _filled(self.body, ids)
        sent: dict[str, Any] = {
            "method": self.method,
            "url": self.path.format(**{**NO_THINGS, **ids}),
        }
        sent["params"] = _filled(self.query, ids)
        if self.body is not None and self.media_type == FORM:
            sent["files"] = {name: ("a.txt", b"hi") for name in filled}
        elif self.body is not None:
            sent["json"] = filled
        return sent


def calls_naming_things(document: Any, ids: Mapping[str, str]) -> list[DescribedCall]:
    """All of them. AssertionError for a path that takes something of which there is no id."""
    return [
        call
        for path, item in document["paths"].items()
        for method, operation in item.items()
        for call in _calls(document, method, path, operation, ids)
    ]


def _calls(
    document: Any, method: str, path: str, operation: Any, ids: Mapping[str, str]
) -> Iterator[DescribedCall]:
    in_path = set(re.findall(r"{(\w+)}", path)) - NO_THINGS.keys()
    assert in_path <= ids.keys(), f"{path}: make one, and give its id to this test"
    content = operation.get("requestBody", {}).get("content", {})
    media_type = JSON if JSON in content else FORM
    schema = _resolved(document, content.get(media_type, {}).get("schema", {}))
    if in_path:
        yield DescribedCall(method, path, _body(document, schema), media_type=media_type)
    for name in schema.get("properties", {}):
        named = LISTS.get(name, name)
        if named in ids:
            value = [f"{{{named}}}"] if name in LISTS else f"{{{named}}}"
            least = name not in LISTS
            body = {**(_body(document, schema, least=least) or {}), name: value}
            yield DescribedCall(method, path, body, media_type=media_type)
    parameters = [p for p in operation.get("parameters", []) if p["in"] == "query"]
    needed = {p["name"]: str(_sample(document, p["schema"])) for p in parameters if p["required"]}
    for parameter in parameters:
        if (name := parameter["name"]) in ids:
            yield DescribedCall(method, path, query={**needed, name: f"{{{name}}}"})


def _body(document: Any, schema: Any, *, least: bool = False) -> dict[str, Any] | None:
    """The properties that are required; where none is, the first one that names no thing."""
    properties = schema.get("properties", {})
    wanted = schema.get("required", [])
    if not wanted and not least:
        named = [name for name in properties if not name.endswith("_id")]
        wanted = [TEXT] if TEXT in named else named[:1]
    body = {name: _sample(document, properties[name]) for name in wanted}
    return body if properties else None


def _sample(document: Any, schema: Any) -> Any:
    schema = _resolved(document, schema)
    for variants in ("oneOf", "anyOf"):
        if variants in schema:
            return _sample(document, next(v for v in schema[variants] if v.get("type") != "null"))
    if "enum" in schema:
        return schema["enum"][0]
    kind = schema.get("type", "string")
    kinds = [kind] if isinstance(kind, str) else kind
    return SAMPLES.get(kinds[0], schema.get("minimum", 1))


def _resolved(document: Any, schema: Any) -> Any:
    while "$ref" in schema:
        node = document
        for name in schema["$ref"].removeprefix("#/").split("/"):
            node = node[name]
        schema = node
    return schema


def _filled(value: Any, ids: Mapping[str, str]) -> Any:
    if isinstance(value, dict):
        return {name: _filled(inner, ids) for name, inner in value.items()}
    if isinstance(value, list):
        return [_filled(inner, ids) for inner in value]
    return value.format(**ids) if isinstance(value, str) else value
