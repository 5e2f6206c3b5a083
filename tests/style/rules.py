"""The house rules that a syntax tree can tell: each yields (line, what is wrong)."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Final

Finding = tuple[int, str]

FUNCTION_LINES_MAX: Final = 50
BANNED_NAMES: Final = frozenset({"utils", "helpers", "common", "core", "base", "manager", "misc"})
ENVIRONMENT: Final = frozenset({"environ", "environb", "getenv"})
QUEUES: Final = frozenset({"Queue", "LifoQueue", "PriorityQueue", "SimpleQueue"})
CLIENTS: Final = frozenset(
    {
        "AsyncClient",
        "BlockingConnectionPool",
        "Client",
        "ClientSession",
        "Console",
        "FastStream",
        "Litestar",
        "Redis",
        "RedisBroker",
        "Settings",
        "Thread",
        "connect",
        "connect_blocking",
        "create_async_engine",
        "create_engine",
        "create_task",
        "from_pool",
        "from_url",
        "load_agents",
        "load_settings",
        "open",
        "open_session",
    }
)
Function = ast.FunctionDef | ast.AsyncFunctionDef


def long_functions(tree: ast.Module) -> Iterator[Finding]:
    for node in ast.walk(tree):
        if isinstance(node, Function) and node.end_lineno is not None:
            lines = node.end_lineno - node.lineno + 1
            if lines > FUNCTION_LINES_MAX:
                yield node.lineno, f"{node.name} has {lines} lines, {FUNCTION_LINES_MAX} are enough"


def environment_reads(tree: ast.Module) -> Iterator[Finding]:
    """`{**os.environ, …}` hands the environment to a child, and reads nothing out of it."""
    handed_on = {
        id(value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Dict)
        for key, value in zip(node.keys, node.values, strict=True)
        if key is None
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module == "os":
            if any(name.name in ENVIRONMENT for name in node.names):
                yield node.lineno, "imports the environment"
        elif isinstance(node, ast.Attribute) and node.attr in ENVIRONMENT:
            is_os = isinstance(node.value, ast.Name) and node.value.id == "os"
            if is_os and id(node) not in handed_on:
                yield node.lineno, "reads the environment: that is what shared/settings.py is for"


def work_at_import(tree: ast.Module) -> Iterator[Finding]:
    """Calls that open something and are carried out when the module is imported."""
    for call in _calls_at_import(tree.body):
        name = _called(call)
        if name in CLIENTS:
            yield call.lineno, f"{name}() at import"


def unbounded_queues(tree: ast.Module) -> Iterator[Finding]:
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or _called(node) not in QUEUES:
            continue
        bounds = [*node.args[:1], *(k.value for k in node.keywords if k.arg == "maxsize")]
        if not bounds or (isinstance(bounds[0], ast.Constant) and not bounds[0].value):
            yield node.lineno, "a queue without a bound"


def redis_keys(tree: ast.Module) -> Iterator[Finding]:
    """Texts that spell a key, but for prose about one."""
    prose = {id(_docstring(node)) for node in ast.walk(tree)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and id(node) not in prose:
            value = node.value.decode("latin-1") if isinstance(node.value, bytes) else node.value
            if isinstance(value, str) and "{hw:" in value:
                yield node.lineno, f"spells the key {value!r}: ask shared/keys.py"


def _docstring(node: ast.AST) -> ast.AST | None:
    if not isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
        return None
    first = node.body[0] if node.body else None
    return first.value if isinstance(first, ast.Expr) else None


def _calls_at_import(body: list[ast.stmt]) -> Iterator[ast.Call]:
    waiting: list[ast.AST] = list(body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, Function):
            waiting += [*node.decorator_list, *_defaults(node.args)]
        elif isinstance(node, ast.Lambda):
            waiting += _defaults(node.args)
        elif not _is_main_guard(node):
            if isinstance(node, ast.Call):
                yield node
            waiting += ast.iter_child_nodes(node)


def _defaults(arguments: ast.arguments) -> list[ast.AST]:
    return [default for default in (*arguments.defaults, *arguments.kw_defaults) if default]


def _is_main_guard(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) == "__name__ == '__main__'"


def _called(call: ast.Call) -> str:
    """The last name of what is called: `Queue` for `asyncio.Queue[str](…)`."""
    target = call.func.value if isinstance(call.func, ast.Subscript) else call.func
    return target.attr if isinstance(target, ast.Attribute) else getattr(target, "id", "")
