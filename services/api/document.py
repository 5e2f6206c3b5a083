"""The OpenAPI document, made true: bodies as pydantic checks them, parameters as a URL says them.

The framework reads models field by field, and loses what stands beside a field's type: bounds,
patterns, which fields exclude each other, that unknown ones are refused. What pydantic itself says
of a body takes the place of it. A parameter is there or absent: no URL and no header says null.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any, Final

from litestar.openapi import OpenAPIConfig
from litestar.openapi.spec import OpenAPI
from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode, models_json_schema

from services.api.bodies import Body
from services.api.schemas import View

REFERENCE: Final = "#/components/schemas/{model}"


@dataclass
class TrueDocument(OpenAPI):
    """The framework's, with the bodies and parameters put right."""

    def to_schema(self) -> dict[str, Any]:
        document = super().to_schema()
        schemas = document["components"]["schemas"]
        schemas |= _bodies(set(schemas))
        for item in document["paths"].values():
            for operation in item.values():
                for parameter in operation.get("parameters", []):
                    parameter["schema"] = _without_null(parameter["schema"])
        return document


@dataclass
class TrueDocumentConfig(OpenAPIConfig):
    """Makes that document, when it is first asked for."""

    def to_openapi_schema(self) -> OpenAPI:
        made = super().to_openapi_schema()
        return TrueDocument(**{field.name: getattr(made, field.name) for field in fields(made)})


def _bodies(names: set[str]) -> dict[str, Any]:
    """The schemas of the models of these names, and of what they refer to."""
    sent = _with_modes(Body, names, "validation")
    received = _with_modes(View, names, "serialization")
    _, made = models_json_schema([*sent, *received], ref_template=REFERENCE)
    return made["$defs"]


def _with_modes(
    base: type[BaseModel], names: set[str], mode: JsonSchemaMode
) -> list[tuple[type[BaseModel], JsonSchemaMode]]:
    return [(model, mode) for model in _descendants(base) if model.__name__ in names]


def _descendants(base: type[BaseModel]) -> Iterator[type[BaseModel]]:
    for model in base.__subclasses__():
        yield model
        yield from _descendants(model)


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema of what a parameter that is there may say."""
    schema = dict(schema)
    if isinstance(schema.get("type"), list):
        schema["type"] = next(kind for kind in schema["type"] if kind != "null")
        schema["enum"] = [value for value in schema["enum"] if value is not None]
    variants = schema.pop("oneOf", [])
    for variant in variants:
        if variant.get("type") != "null":
            schema |= variant
    return schema
