"""docs/protocol.md against the code it describes: calls, bodies, events, codes."""

from __future__ import annotations

import ast
import importlib
import pkgutil
import re
from typing import Any, Final, get_args

import pytest
from pydantic import BaseModel

import services.api.routes
from services.api import bodies as sent
from services.api import close_codes, schemas
from services.api.client_frames import Frame
from services.api.problems import CODES
from shared import events
from tests.style.documents import PROTOCOL, names_in, rows, section, spans
from tests.style.sources import ROOT, modules, name_of, parsed

CALL: Final = re.compile(r"(GET|POST|PUT|PATCH|DELETE) (/[^?\s]*)(?:\?\S*)?")
FRAMEWORK: Final = {("GET", "/schema"), ("GET", "/schema/openapi.json")}
COMMON_TO_JOB_EVENTS: Final = set(events.JobEvent.model_fields)
COMMON_TO_THREAD_EVENTS: Final = set(events.ThreadEvent.model_fields)


def routes() -> set[tuple[str, str]]:
    """Every call the gateway takes, its parameters without their types."""
    calls: set[tuple[str, str]] = set()
    for found in pkgutil.iter_modules(services.api.routes.__path__, "services.api.routes."):
        for handler in getattr(importlib.import_module(found.name), "HANDLERS", ()):
            for path in handler.paths:
                plain = re.sub(r"\{(\w+):\w+\}", r"{\1}", path)
                methods = getattr(handler, "http_methods", {"GET"})  # a WebSocket has none
                calls |= {(str(method), plain) for method in methods}
    return {(method, path) for method, path in calls if method != "HEAD"}


def test_every_call_is_described_and_no_other() -> None:
    matches = [match for span in spans(PROTOCOL) if (match := CALL.fullmatch(span))]
    assert {(match[1], match[2]) for match in matches} == routes() | FRAMEWORK


def bodies() -> dict[str, type[BaseModel]]:
    """What clients send and receive: every kind of body that a route knows."""
    routes()  # imports them
    waiting: list[type[BaseModel]] = [sent.Body, schemas.View]
    found: dict[str, type[BaseModel]] = {}
    while waiting:
        kinds = waiting.pop().__subclasses__()
        found |= {kind.__name__: kind for kind in kinds if not kind.__name__.startswith("_")}
        waiting += kinds
    return found


def test_bodies_have_the_fields_they_are_said_to_have() -> None:
    said = {
        names_in(row[0])[0]: names_in(row[1])
        for heading in ("What is sent", "What is received")
        for row in rows(section(PROTOCOL, heading))
    }
    assert set(said) == set(bodies())
    for name, fields in said.items():
        model = bodies()[name].model_fields
        is_sent = issubclass(bodies()[name], sent.Body)
        expected = [
            f"{field}?" if is_sent and not info.is_required() else field
            for field, info in model.items()
        ]
        assert sorted(fields) == sorted(expected), name


def event_models() -> dict[str, type[BaseModel]]:
    union, _ = get_args(events.Event)
    models: list[Any] = [get_args(tagged)[0] for tagged in get_args(union)]
    return {m.model_fields["type"].default: m for m in models if m is not events.UnknownEvent}


@pytest.mark.parametrize(
    ("heading", "base", "common"),
    [
        ("Events of a job", events.JobEvent, COMMON_TO_JOB_EVENTS),
        ("Events of a thread", events.ThreadEvent, COMMON_TO_THREAD_EVENTS),
    ],
)
def test_events_have_the_fields_they_are_said_to_have(
    heading: str, base: type[BaseModel], common: set[str]
) -> None:
    models = {kind: model for kind, model in event_models().items() if issubclass(model, base)}
    said = {names_in(row[0])[0]: names_in(row[1]) for row in rows(section(PROTOCOL, heading))}
    assert set(said) == set(models)
    for kind, fields in said.items():
        assert set(fields) == set(models[kind].model_fields) - common, kind


def test_common_fields_are_named() -> None:
    for heading, common in (
        ("Events of a job", COMMON_TO_JOB_EVENTS),
        ("Events of a thread", COMMON_TO_THREAD_EVENTS),
    ):
        introduction = section(PROTOCOL, heading).split("|", 1)[0]
        assert common <= set(names_in(introduction)), heading


def test_frames_of_a_client_are_those_that_are_read() -> None:
    said = {names_in(row[0])[0]: row[1] for row in rows(section(PROTOCOL, "Frames of a client"))}
    models = {get_args(m.model_fields["type"].annotation)[0]: m for m in get_args(Frame)}
    assert set(said) == set(models)
    for kind, fields in said.items():
        expected = [
            name if info.is_required() else f"{name}?"
            for name, info in models[kind].model_fields.items()
            if name not in ("id", "type")
        ]
        assert sorted(names_in(fields)) == sorted(expected), kind


def test_closes_are_those_that_are_told() -> None:
    closes = {c for c in vars(close_codes).values() if isinstance(c, close_codes.Close)}
    said = {
        (int(code), reason)
        for row in rows(section(PROTOCOL, "Why a socket is closed"))
        for code in row[0].split(", ")
        for reason in names_in(row[1]) or [""]
    }
    of_problems = {(code, reason) for code, reason in said if reason in CODES and code > 4000}
    assert {(close.code, close.reason) for close in closes} <= said
    assert all(code == close_codes.OF_PROBLEMS + CODES[reason] for code, reason in of_problems)


def test_problem_codes_are_those_of_the_gateway() -> None:
    said = {names_in(row[1])[0]: int(row[0]) for row in rows(section(PROTOCOL, "Problems"))}
    assert said == CODES


def test_codes_raised_by_routes_are_listed() -> None:
    """`BadRequest("code", …)` anywhere in the gateway."""
    raised = {
        (name_of(path), str(node.args[0].value))
        for path in modules("services")
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "BadRequest"
        if isinstance(node.args[0], ast.Constant)
    }
    assert raised
    assert not [(place, code) for place, code in raised if CODES.get(code) != 400]


def error_codes() -> set[str]:
    """What an `error` event may carry: the model's codes, and the orchestrator's own."""
    folder = ROOT / "services" / "orchestrator"
    codes: set[str] = set()
    for path in modules("services"):
        if folder not in path.parents:
            continue
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.AnnAssign) and _is_code(node) and node.value is not None:
                codes.add(ast.literal_eval(node.value))
            elif isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Failure":
                codes |= {str(a.value) for a in node.args[:1] if isinstance(a, ast.Constant)}
    return codes


def _is_code(node: ast.AnnAssign) -> bool:
    return isinstance(node.target, ast.Name) and node.target.id.startswith("CODE")


def test_error_codes_of_jobs_are_listed() -> None:
    said = {names_in(row[0])[0] for row in rows(section(PROTOCOL, "Why a job fails"))}
    assert said == error_codes()
