"""The rules themselves: each finds what it is there to find, and nothing beside it."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator

import pytest

from tests.style import rules

Rule = Callable[[ast.Module], Iterator[rules.Finding]]

LONG = "def f():\n" + "    a()\n" * rules.FUNCTION_LINES_MAX


@pytest.mark.parametrize(
    ("rule", "source"),
    [
        (rules.long_functions, LONG),
        (rules.long_functions, f"class A:\n    async {LONG.replace('    a', '        a')}"),
        (rules.environment_reads, "import os\nport = os.environ['PORT']"),
        (rules.environment_reads, "import os\nport = os.getenv('PORT')"),
        (rules.environment_reads, "import os\nenv = dict(os.environ)"),
        (rules.environment_reads, "from os import environ"),
        (rules.work_at_import, "client = Redis.from_url('redis://')"),
        (rules.work_at_import, "class A:\n    client = redis.Redis()"),
        (rules.work_at_import, "def f(session=aiohttp.ClientSession()): ..."),
        (rules.work_at_import, "@wrap(load_settings())\ndef f(): ..."),
        (rules.work_at_import, "if True:\n    settings = load_settings()"),
        (rules.unbounded_queues, "q = asyncio.Queue()"),
        (rules.unbounded_queues, "q = asyncio.Queue[str](maxsize=0)"),
        (rules.unbounded_queues, "q = queue.SimpleQueue()"),
        (rules.redis_keys, "key = '{hw:0}:log'"),
        (rules.redis_keys, "key = f'{{hw:{p}}}:log'"),
        (rules.redis_keys, "key = b'{hw:0}:log'"),
    ],
)
def test_rule_finds_a_planted_breach(rule: Rule, source: str) -> None:
    assert list(rule(ast.parse(source)))


@pytest.mark.parametrize(
    ("rule", "source"),
    [
        (rules.long_functions, LONG.removesuffix("    a()\n")),
        (rules.environment_reads, "import os\nenv = {**os.environ, 'A': '1'}"),
        (rules.work_at_import, "def f():\n    return Redis.from_url('redis://')"),
        (rules.work_at_import, "make = lambda: create_engine('postgresql://')"),
        (rules.work_at_import, "if __name__ == '__main__':\n    load_settings()"),
        (rules.work_at_import, "import re\npattern = re.compile('a')"),
        (rules.unbounded_queues, "q = asyncio.Queue[str](maxsize=WAITING_MAX)"),
        (rules.unbounded_queues, "q = asyncio.Queue(WAITING_MAX)"),
        (rules.redis_keys, 'def f():\n    """Reads {hw:p}:log."""'),
    ],
)
def test_rule_leaves_good_code_alone(rule: Rule, source: str) -> None:
    assert not list(rule(ast.parse(source)))
