"""What is typed, what is dropped, and letters that are not what they should be."""

from __future__ import annotations

import json
import re

import pytest

from shared.keys import PartitionKeys
from tests.integration.console.desk import EVENT, Desk

UNSAFE = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
MANY = 120  # more than two pages


async def test_nothing_is_dead(desk: Desk) -> None:
    for arguments, output in (
        ((), "none\n"),
        (("list",), "none\n"),
        (("list", "--json"), "[]\n"),
        (("retry", "--all"), "none\n"),
        (("drop", "--all"), "0 dropped\n"),
    ):
        ran = await desk(*arguments)
        assert (ran.code, ran.output, ran.errors) == (0, output, "")


async def test_letters_are_dropped_by_name_and_all(desk: Desk) -> None:
    ids = [await desk.written(*EVENT, partition=number % 2) for number in range(MANY)]
    assert sorted(await desk.ids()) == sorted(ids)
    assert len((await desk()).output.splitlines()) == MANY
    named = await desk("drop", ids[0], ids[1], ids[1])
    assert (named.code, named.output) == (0, "2 dropped\n")
    again = await desk("drop", ids[0], ids[2])
    assert (again.code, again.output) == (1, "1 dropped\n")
    assert again.errors == f"there is no letter {ids[0]}, or no more\n"
    ran = await desk("drop", "--all")
    assert (ran.code, ran.output) == (0, f"{MANY - 3} dropped\n")
    assert await desk.letters() == 0


@pytest.mark.parametrize(
    "arguments",
    [
        ("show", "yesterday"),
        ("show", "0:1"),
        ("show", "0:1-\u0661"),
        ("show", "2:1-0"),
        ("retry", f"0:{2**64}-0"),
        ("retry", "0:1-0", "-1:1-0"),
        ("drop", "0:1-0\n0:2-0\x1b[2J"),
        ("drop",),
        ("retry",),
        ("retry", "0:1-0", "--all"),
    ],
)
async def test_what_is_typed_wrong_is_told_before_anything_is_done(
    desk: Desk, arguments: tuple[str, ...]
) -> None:
    await desk.written(*EVENT)
    ran = await desk(*arguments)
    assert (ran.code, ran.output) == (2, "")
    *_, message = ran.errors.splitlines()
    assert "\x1b" not in message
    if "-1:1-0" not in arguments:  # which is an option to the parser
        assert ran.errors == f"{message}\n"
    assert await desk.letters() == 1


@pytest.mark.parametrize("action", ["show", "retry"])
async def test_a_letter_that_is_not_there(desk: Desk, action: str) -> None:
    ran = await desk(action, "1:0001-0")
    assert (ran.code, ran.output) == (1, "")
    assert ran.errors == "there is no letter 1:1-0, or no more\n"


HOSTILE: dict[str, list[str | bytes]] = {
    "controls": ["d", "\x1b]0;owned\x07\x1b[2J\r\x7f\x9b \u202e\nkind     job"],
    "no text": ["d", b"\xff\xfe\x1b[31m", b"\xff\n\x1b", "v"],
    "json": ["d", json.dumps({"a": ["\x1b[2J", "\x7f\x9b\u202e", "é"], "b": {"c": 1}})],
    "half a character": ["d", '{"a":"\\ud800"}'],
    "too deep": ["d", "[" * 100_000 + "]" * 100_000],
    "a large number": ["d", "9" * 5_000],
    "names of ours": ["kind", "job", "reason", "none", "j", f"job_00{'0' * 32}", "d", "x"],
    "long names": ["j", "\x1b" * 20_000, "h", "thr_\n" * 5_000],
}


async def test_nothing_in_a_letter_steers_the_terminal(desk: Desk) -> None:
    own = ["kind", "command", "reason", "\x1b[2J\nnone\u2066", "at", "\x9b1m", "entry", "\x07"]
    letters = {await desk.written(*own, *fields): fields for fields in HOSTILE.values()}
    listed, as_json = await desk(), await desk("--json")
    for ran in (listed, as_json):
        assert (ran.code, ran.errors) == (0, "")
        assert not UNSAFE.search(ran.output)
    for line, letter_id in zip(listed.output.removesuffix("\n").split("\n"), letters, strict=True):
        assert re.match(rf"{letter_id} +command  ", line)
    assert {letter["kind"] for letter in json.loads(as_json.output)} == {"command"}
    for letter_id, fields in letters.items():
        shown = await desk("show", letter_id)
        assert (shown.code, shown.errors) == (0, "")
        assert not UNSAFE.search(shown.output)
        names = [line.split()[0] for line in shown.output.split("\n") if line[:1].strip()]
        assert names == ["id", "kind", "at", "entry", "reason"] + ["·"] * (len(fields) // 2)
    assert (await desk("retry", "--all")).code == 0
    back = await desk.redis.execute_command(b"XRANGE", PartitionKeys(0).commands, "-", "+")
    assert [flat for _, flat in back] == [
        [part.encode() if isinstance(part, str) else part for part in fields]
        for fields in HOSTILE.values()
    ]


async def test_json_of_a_letter_is_shown_over_lines(desk: Desk) -> None:
    data = '{"content":"é","metadata":{"page":3}}'
    letter_id = await desk.written(*EVENT[:-1], data)
    shown = await desk("show", letter_id)
    expected = json.dumps(json.loads(data), indent=2, ensure_ascii=False).splitlines()
    assert [line.removeprefix("· d").strip() for line in shown.output.splitlines()[5:]] == [
        line.strip() for line in expected
    ]
