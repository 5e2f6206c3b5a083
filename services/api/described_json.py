"""How the document speaks of JSON: what a client may send, as JSON Schema has words for it."""

from __future__ import annotations

from typing import Annotated, Any, Final

from pydantic import Field, GetJsonSchemaHandler, TypeAdapter, WithJsonSchema
from pydantic.config import JsonDict
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema
from typing_extensions import TypeAliasType

INTEGER_MAX: Final = 2**53  # RFC 7493 §2.2: beyond it, readers disagree
NO_NUL: Final[JsonDict] = {"pattern": r"^[^\u0000]*$"}
_Word = Annotated[str, WithJsonSchema({"type": "string", **NO_NUL})]
_Whole = Annotated[int, Field(ge=-INTEGER_MAX, le=INTEGER_MAX)]
_Number = Annotated[float, WithJsonSchema({"type": "number", "not": {"type": "integer"}})]
JsonValue = TypeAliasType(
    "JsonValue", "bool | _Whole | _Number | _Word | list[JsonValue] | _JsonObject | None"
)
_JsonObject = Annotated[
    dict[_Word, JsonValue], Field(json_schema_extra={"additionalProperties": False})
]
_JSON_OBJECT: Final = TypeAdapter(_JsonObject)


class DescribedAsJson:
    """How the document speaks of JSON that _check() walks: pydantic would build every part anew."""

    def __get_pydantic_json_schema__(
        self, _: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        return handler(_JSON_OBJECT.core_schema)


def given(name: str) -> dict[str, Any]:
    """JSON Schema of an object in which this field is there, and not null."""
    return {"required": [name], "properties": {name: {"not": {"type": "null"}}}}
