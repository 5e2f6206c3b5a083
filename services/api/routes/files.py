"""/v1/threads/{thread_id}/files and /v1/files"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Annotated, Any, Final

from litestar import Request, Response, delete, get, post
from litestar.connection import ASGIConnection
from litestar.di import NamedDependency
from litestar.handlers import BaseRouteHandler
from litestar.openapi import ResponseSpec
from litestar.openapi.spec import (
    OpenAPIFormat,
    OpenAPIMediaType,
    OpenAPIType,
    Operation,
    RequestBody,
    Schema,
)
from litestar.params import FromPath, HeaderParameter, SkipValidation
from litestar.response import Stream

from services.api.bodies import MESSAGE_CHARS_MAX
from services.api.byte_ranges import Unsatisfiable, matches, wanted
from services.api.file_names import content_disposition
from services.api.file_types import IMAGES
from services.api.files import Files
from services.api.post_message import idempotency_of
from services.api.problems import problem
from services.api.routes.documented import refusals
from services.api.routes.file_views import view_of_file
from services.api.routes.json_bodies import UnsupportedMediaType
from services.api.routes.parameters import IdempotencyKey
from services.api.upload_file import Uploading
from services.api.upload_schemas import UploadedView
from services.api.uploads import FORM_DATA, FRAME_BYTES_MAX, MESSAGE_BYTES_MAX, Form, boundary_of
from shared.errors import FileTooLarge, NotFound

THUMBNAIL_TYPE: Final = "image/webp"
SAFE: Final = {  # a file is somebody else's: it is shown, never run, and kept by its user only
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; sandbox",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "private, no-cache",
    "Vary": "Authorization",
}
BYTES: Final = ResponseSpec(
    bytes, media_type="*/*", generate_examples=False, description="The bytes, as what they are"
)

Range = Annotated[str | None, HeaderParameter(name="Range", description="one range of bytes")]
IfRange = Annotated[str | None, HeaderParameter(name="If-Range", description="an `ETag`")]
IfNoneMatch = Annotated[
    str | None, HeaderParameter(name="If-None-Match", description="`ETag`s that the client has")
]


@dataclass
class TakesFile(Operation):
    """Takes a form with a file, which is read as it comes."""

    def __post_init__(self) -> None:
        of_file = Schema(type=OpenAPIType.STRING, format=OpenAPIFormat.BINARY, min_length=1)
        message = Schema(type=OpenAPIType.STRING, min_length=1, max_length=MESSAGE_CHARS_MAX)
        form = Schema(
            type=OpenAPIType.OBJECT,
            properties={"file": of_file, "message": message},
            required=["file"],
            additional_properties=False,
        )
        self.request_body = RequestBody({FORM_DATA: OpenAPIMediaType(form)}, required=True)


async def takes_form(connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None:
    """A guard. Raises UnsupportedMediaType."""
    if not _boundary(connection):
        raise UnsupportedMediaType("The body must be multipart/form-data, with its boundary.")


@post(
    "/v1/threads/{thread_id:str}/files",
    status_code=201,
    summary="Add a file to a thread; with a message, post that with the file attached",
    guards=[takes_form],
    request_max_body_size=None,
    operation_class=TakesFile,
    responses={
        **refusals(
            "not_found", "bad_idempotency_key", "idempotency_mismatch", "file_too_large",
            "image_too_large", "file_type_refused", "too_many_uploads", "queue_full",
            "too_many_jobs", "archive_unavailable", "files_unavailable", body=True,
        ),
        201: ResponseSpec(UploadedView, generate_examples=False, description="It is there"),
    },
)  # fmt: skip
async def upload_file(
    request: Request[Any, Any, Any],
    thread_id: FromPath[str],
    uploading: NamedDependency[SkipValidation[Uploading]],
    idempotency_key: IdempotencyKey = None,
) -> Response[UploadedView]:
    idempotency_of(idempotency_key, "upload_file", None)  # refuses a bad one before the body
    files = uploading.files
    _check_length(request, files.limits.bytes_max)
    await uploading.check(request.user.user, thread_id)
    with files.upload(request.user.user) as spool:
        form = Form(spool)
        await form.read(request.stream(), _boundary(request))
        said = form.said()
        named = idempotency_of(idempotency_key, "upload_file", said, thread_id=thread_id)
        file, accepted = await uploading.upload(request.user, thread_id, said, spool, named)
    view = view_of_file(file)
    body = UploadedView(**dict(view), message=accepted)
    return Response(body, status_code=201, headers={"Location": view.file_url})


@get(
    "/v1/files/{file_id:str}",
    summary="Get a file, or a range of its bytes",
    responses={
        **refusals(
            "not_found", "range_not_satisfiable", "archive_unavailable", "files_unavailable"
        ),
        200: BYTES,
        206: BYTES,
        304: ResponseSpec(None, description="The client has it"),
    },
)
async def get_file(
    request: Request[Any, Any, Any],
    file_id: FromPath[str],
    files: NamedDependency[SkipValidation[Files]],
    byte_range: Range = None,
    if_range: IfRange = None,
    if_none_match: IfNoneMatch = None,
) -> Response[Any]:
    file = await files.get(request.user.user, file_id)
    etag = f'"{file.sha256}"'
    headers = {**SAFE, "ETag": etag, "Accept-Ranges": "bytes"}
    if matches(if_none_match, etag):
        return Response(None, status_code=304, headers=headers)
    try:
        span = wanted(byte_range, if_range, size=file.size, etag=etag)
    except Unsatisfiable:
        size = {"Content-Range": f"bytes */{file.size}"}
        return problem("range_not_satisfiable", "The file ends before that.", headers=size)
    start, end = span or (0, file.size)
    chunks = _there(await files.store.get(file_id, start, end))
    is_image = file.media_type in IMAGES
    headers["Content-Disposition"] = content_disposition(file.name, inline=is_image)
    headers["Content-Length"] = str(end - start)
    if span is not None:
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{file.size}"
    return Stream(
        chunks,
        status_code=200 if span is None else 206,
        media_type=file.media_type,
        headers=headers,
    )


@get(
    "/v1/files/{file_id:str}/thumbnail",
    summary="Get a small picture of a file",
    responses={
        **refusals("not_found", "archive_unavailable", "files_unavailable"),
        200: ResponseSpec(
            bytes, media_type=THUMBNAIL_TYPE, generate_examples=False, description="WebP"
        ),
        304: ResponseSpec(None, description="The client has it"),
    },
)
async def get_thumbnail(
    request: Request[Any, Any, Any],
    file_id: FromPath[str],
    files: NamedDependency[SkipValidation[Files]],
    if_none_match: IfNoneMatch = None,
) -> Response[Any]:
    file = await files.get(request.user.user, file_id)
    if not file.has_thumbnail:
        raise NotFound()
    headers = {**SAFE, "ETag": f'"{file.sha256}-thumbnail"', "Content-Disposition": "inline"}
    if matches(if_none_match, headers["ETag"]):
        return Response(None, status_code=304, headers=headers)
    chunks = _there(await files.store.get_thumbnail(file_id))
    return Stream(chunks, media_type=THUMBNAIL_TYPE, headers=headers)


@delete(
    "/v1/files/{file_id:str}",
    status_code=204,
    summary="Delete a file; messages still name it",
    responses=refusals("not_found", "not_the_owner", "archive_unavailable"),
)
async def delete_file(
    request: Request[Any, Any, Any],
    file_id: FromPath[str],
    files: NamedDependency[SkipValidation[Files]],
) -> None:
    await files.delete(request.user.user, file_id)


def _there(chunks: AsyncGenerator[bytes] | None) -> AsyncGenerator[bytes]:
    """Raises NotFound."""
    if chunks is None:
        raise NotFound()
    return chunks


def _boundary(connection: ASGIConnection[Any, Any, Any, Any]) -> str:
    return boundary_of(connection.headers.get("content-type", ""))


def _check_length(request: Request[Any, Any, Any], bytes_max: int) -> None:
    """Refuse what says that it is too large before it is read. Raises FileTooLarge."""
    length = request.headers.get("content-length", "")
    if length.isdigit() and int(length) > bytes_max + MESSAGE_BYTES_MAX + FRAME_BYTES_MAX:
        raise FileTooLarge(f"A file has at most {bytes_max:,} bytes.")


HANDLERS = [upload_file, get_file, get_thumbnail, delete_file]
