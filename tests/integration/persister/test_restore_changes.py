"""A Redis that lost its end gets back who takes part, what they have read, what is not wanted."""

from __future__ import annotations

from sqlalchemy.ext.asyncio import AsyncEngine

from services.persister.rebuild import rebuild
from shared.commands import RunJob
from shared.events import MessageDeleted, ParticipantJoined, ParticipantLeft, ThreadRead
from shared.settings import Settings
from shared.times import utc_now
from tests.integration.persister.losing import (
    archive_by_persister,
    archive_now,
    changes,
    image,
    restore_with,
)
from tests.integration.persister.tables import read_model
from tests.integration.persister.writer import USER, Writer
from tests.support.append_only_file import lose_since, moment
from tests.support.servers import Server


def deletion(command: RunJob) -> MessageDeleted:
    """Of the answer."""
    return MessageDeleted(
        thread_id=command.thread_id,
        at=utc_now(),
        message_id=command.reply_id,
        job_id=command.job_id,
        user=USER,
    )


async def share(writer: Writer, thread_id: str) -> None:
    """Two let in, one out again, and one of them and the owner have read."""
    at = utc_now()
    for user in ("zoë b", "eve", "adam"):
        await writer.change(ParticipantJoined(thread_id=thread_id, at=at, user=user))
    await writer.change(ParticipantLeft(thread_id=thread_id, at=at, user="eve"))
    read = ThreadRead(thread_id=thread_id, at=at, user=USER, message_id="msg_1", upto=2)
    await writer.change(read)


async def test_who_takes_part_and_what_they_have_read(
    writer: Writer, settings: Settings, engine: AsyncEngine, valkey_server: Server
) -> None:
    command = await writer.chat()
    await archive_by_persister(writer, settings)
    then = moment(valkey_server)
    await share(writer, command.thread_id)
    await archive_by_persister(writer, settings)
    before = await image(writer, [command])
    lose_since(valkey_server, then)
    await restore_with(engine, writer.redis).closed_partitions()
    assert changes(before, await image(writer, [command])) == {}


async def test_a_job_whose_message_was_deleted_is_flagged_again(
    writer: Writer, engine: AsyncEngine, valkey_server: Server
) -> None:
    command = await writer.ask()
    await writer.begin(command)
    then = moment(valkey_server)
    await writer.change(deletion(command))
    await archive_now(writer, engine)
    lose_since(valkey_server, then)
    await restore_with(engine, writer.redis).closed_partitions()
    assert (await image(writer, [command]))[command.job_id]["hash"][b"cancel"] == b"1"


async def test_a_rebuild_makes_the_same_rows(writer: Writer, engine: AsyncEngine) -> None:
    command = await writer.chat()
    await share(writer, command.thread_id)
    await writer.change(deletion(command))
    await archive_now(writer, engine)
    before = await read_model(engine)
    assert len(before["participants"]) == 4
    assert await rebuild(engine, lambda _: None) == []
    assert await read_model(engine) == before
