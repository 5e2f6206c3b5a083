"""The error tree of Headwater.

    HeadwaterError
    ├── SettingsError              a variable is missing or wrong; the process does not start
    ├── DeploymentError            the stores do not fit this process (partitions, schema)
    ├── LogUnavailable             Redis cannot take or answer the call; nothing is known to be lost
    ├── ArchiveUnavailable         Postgres cannot answer; live streams go on without it
    │   └── ArchiveTooSlow         it was given a time to answer in, and did not
    ├── KeysUnavailable            the issuer's keys cannot be had, and a token is of one not known
    ├── FilesUnavailable           the store of files cannot be reached
    ├── UnknownJob                 Redis has a command for a job it knows nothing of
    ├── CodecError                 bytes that are no event or command of ours
    └── Refused                    a command was understood and is not allowed
        ├── NotFound               no such thing, or somebody else's: callers must not tell which
        ├── EventsGone             what was asked for is kept no longer
        ├── ThreadBusy             a job runs in the thread and the caller asked not to wait
        ├── QueueFull              too many messages wait in the thread
        ├── NotTheOwner            a participant may not do this
        ├── OwnerStays             the owner of a thread cannot leave it
        ├── ThreadCrowded          a thread has as many participants as it may have
        ├── TooManyJobs            of this user are in flight
        ├── TooManyStreams         of this user are open
        ├── TooManyUploads         of this user are under way
        ├── FileTooLarge           more bytes than a file may have
        ├── FileTypeRefused        a file's content is of no type that is taken
        ├── ImageTooLarge          more pixels than anybody should unpack
        ├── TooManySockets         of this user, or of this gateway, are open
        └── IdempotencyMismatch    the key was used before with another body

Driver errors of Redis are translated in one place (``shared.redis_client.translate``). Signals that
steer the code without being failures (a lost lease, a gap) are return values, not exceptions.
"""

from __future__ import annotations


class HeadwaterError(Exception):
    """Base of every error raised on purpose. Without arguments the docstring is the message."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or (self.__doc__ or type(self).__name__).strip())


class SettingsError(HeadwaterError):
    """A setting is missing or wrong."""


class DeploymentError(HeadwaterError):
    """The stores were made by a deployment with other settings."""


class LogUnavailable(HeadwaterError):
    """The event log cannot be reached."""


class ArchiveUnavailable(HeadwaterError):
    """The archive cannot be reached."""


class ArchiveTooSlow(ArchiveUnavailable):
    """The archive did not answer in the time that the question was given."""


class KeysUnavailable(HeadwaterError):
    """The keys of the token's issuer cannot be had at the moment."""


class FilesUnavailable(HeadwaterError):
    """The store of files cannot be reached."""


class UnknownJob(HeadwaterError):
    """The log knows no such job."""


class CodecError(HeadwaterError):
    """Not an event or command of this system."""


class Refused(HeadwaterError):
    """The command was refused."""


class NotFound(Refused):
    """There is no such thing."""


class EventsGone(Refused):
    """These events are kept no longer. What was said can be read as messages."""


class ThreadBusy(Refused):
    """A job is running in this thread."""


class QueueFull(Refused):
    """Too many messages are waiting in this thread."""


class NotTheOwner(Refused):
    """Only the owner of the thread may do this."""


class OwnerStays(Refused):
    """The owner of a thread cannot leave it; delete it instead."""


class ThreadCrowded(Refused):
    """The thread has as many participants as it may have."""


class TooManyJobs(Refused):
    """Too many of your jobs are waiting or running."""


class TooManyStreams(Refused):
    """Too many of your streams are open."""


class TooManyUploads(Refused):
    """Too many of your uploads are under way."""


class FileTooLarge(Refused):
    """The file has more bytes than a file may have."""


class FileTypeRefused(Refused):
    """The file's content is of no type that is taken here."""


class ImageTooLarge(Refused):
    """The image has more pixels than an image may have."""


class TooManySockets(Refused):
    """Too many sockets are open."""


class IdempotencyMismatch(Refused):
    """This Idempotency-Key was used before with another body."""
