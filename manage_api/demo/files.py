"""`/v1/files`: uploads, kept in memory until they are deleted or the process ends."""

import secrets
import time
from http import HTTPStatus
from typing import Any

from manage_api.demo.errors import ApiError, invalid_request, missing_parameter
from manage_api.demo.handler import ApiHandler, StoredFile

MAX_LISTED = 10_000


class Files(ApiHandler):
    """All files."""

    def post(self) -> None:
        """Store the `file` of a multipart upload."""
        purpose = self.get_body_argument("purpose", "")
        uploads = self.request.files.get("file", [])
        if not uploads:
            raise missing_parameter("file")
        if not purpose:
            raise missing_parameter("purpose")
        stored = _stored(uploads[0].filename, purpose, uploads[0].body)
        self.upstream.files[stored.shown["id"]] = stored
        self.write(stored.shown)

    def get(self) -> None:
        """List the files, newest first unless `order` is `asc`, filtered by `purpose`, `after` and `limit`."""
        purpose = self.get_query_argument("purpose", None)
        shown = [file.shown for file in self.upstream.files.values()]
        if self.get_query_argument("order", "desc") == "desc":
            shown.reverse()
        matching = [file for file in shown if purpose in (None, file["purpose"])]
        self.write(self._page(matching))

    def _page(self, files: list[dict[str, Any]]) -> dict[str, Any]:
        limit = self.get_query_argument("limit", str(MAX_LISTED))
        if not (limit.isascii() and limit.isdigit() and 1 <= int(limit) <= MAX_LISTED):
            raise invalid_request(f"'limit' must be from 1 to {MAX_LISTED}.", param="limit")
        ids = [file["id"] for file in files]
        after = self.get_query_argument("after", None)
        start = ids.index(after) + 1 if after in ids else 0
        page = files[start : start + int(limit)]
        return {
            "object": "list",
            "data": page,
            "first_id": page[0]["id"] if page else None,
            "last_id": page[-1]["id"] if page else None,
            "has_more": start + len(page) < len(files),
        }


class OneFile(ApiHandler):
    """One file."""

    def get(self, file_id: str) -> None:
        """Show the file's metadata."""
        self.write(_find(self.upstream.files, file_id).shown)

    def delete(self, file_id: str) -> None:
        """Delete the file."""
        _find(self.upstream.files, file_id)
        del self.upstream.files[file_id]
        self.write({"id": file_id, "object": "file", "deleted": True})


class FileContent(ApiHandler):
    """The bytes of one file."""

    async def get(self, file_id: str) -> None:
        """Send the file's bytes."""
        stored = _find(self.upstream.files, file_id)
        self.set_header("Content-Type", "application/octet-stream")
        self.set_header("Content-Length", str(len(stored.content)))
        await self.send(stored.content)


def _stored(filename: str, purpose: str, content: bytes) -> StoredFile:
    shown = {
        "id": f"file-{secrets.token_hex(12)}",
        "object": "file",
        "bytes": len(content),
        "created_at": int(time.time()),
        "expires_at": None,
        "filename": filename,
        "purpose": purpose,
        "status": "processed",
        "status_details": None,
    }
    return StoredFile(shown, content)


def _find(files: dict[str, StoredFile], file_id: str) -> StoredFile:
    if file_id not in files:
        raise ApiError(HTTPStatus.NOT_FOUND, f"No such File object: {file_id}", param="id")
    return files[file_id]
