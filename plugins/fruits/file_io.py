"""PyIceberg's way to S3, more patient: a commit must not fail because S3 asked to slow down.

Arrow's own is not. It asks three times; where an error's body is longer than the range that was
asked for (a small column's, for instance), it asks once; and a CompleteMultipartUpload that was
throttled is sent again after it succeeded, and ends in NoSuchUpload. A commit makes dozens of small
reads and writes.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import boto3
from pyarrow import BufferReader
from pyarrow.fs import AwsStandardS3RetryStrategy, FileSystem, S3FileSystem
from pyiceberg.io import InputFile, OutputFile
from pyiceberg.io.pyarrow import PyArrowFileIO

from fruits import objects
from fruits.errors import MissingObjectError

if TYPE_CHECKING:
    from pyiceberg.io import InputStream, OutputStream

MAX_ATTEMPTS = 10
# Bytes of a data file that is read as a whole. Its columns are often shorter than an error's body.
SMALL = 8 << 20
# Where boto3 found credentials that Arrow renews by itself.
FOUND_BY_ARROW = ("env", "shared-credentials-file", "config-file", "container-role", "iam-role")
# What Iceberg reads and writes as a whole: table metadata, manifest lists, manifests.
WHOLE = (".json", ".avro")


class PatientFileIO(PyArrowFileIO):
    """Metadata and small data files as whole objects, through the package's own client.

    Larger data files through Arrow, made patient.

    The endpoint of metadata is that of the environment (AWS_ENDPOINT_URL_S3), as everywhere else.
    """

    def new_input(self, location: str) -> Any:
        """Return the file to read at *location*."""
        if _is_whole(location) or _is_small(location):
            return WholeObject(location)
        return super().new_input(location)

    def new_output(self, location: str) -> Any:
        """Return the file to write at *location*."""
        return WholeObject(location) if _is_whole(location) else super().new_output(location)

    def delete(self, location: str | InputFile | OutputFile) -> None:
        """Delete the object at *location*, which may be gone already.

        With Arrow's delete, S3 would be left with an empty object that stands for the folder.
        """
        uri = location if isinstance(location, str) else location.location
        if uri.startswith("s3://"):
            objects.delete(uri)
        else:
            super().delete(location)

    def _initialize_s3_fs(self, netloc: str | None) -> FileSystem:
        _, (options,) = super()._initialize_s3_fs(netloc).__reduce__()
        return S3FileSystem(
            **options
            | ({} if options.get("access_key") or options.get("role_arn") else _credentials())
            | {
                # A small file is one PUT instead of a multipart upload.
                "allow_delayed_open": True,
                "retry_strategy": AwsStandardS3RetryStrategy(max_attempts=MAX_ATTEMPTS),
            }
        )


def _credentials() -> dict[str, str | None]:
    """Return boto3's credentials, unless Arrow finds the same: it knows no roles of profiles."""
    found = boto3.Session().get_credentials()
    if found is None or found.method in FOUND_BY_ARROW:
        return {}
    kept = found.get_frozen_credentials()
    return {
        "access_key": kept.access_key,
        "secret_key": kept.secret_key,
        "session_token": kept.token,
    }


class WholeObject(InputFile, OutputFile):
    """An object that is read with one GET and written with one PUT."""

    def __len__(self) -> int:
        """Return the length in bytes."""
        return objects.size(self.location)

    def exists(self) -> bool:
        """Say whether the object is there."""
        return objects.exists(self.location)

    def open(self, seekable: bool = True) -> InputStream:  # noqa: ARG002  (it always is)
        """Return the content as a stream; FileNotFoundError if there is no such object."""
        content: InputStream = BufferReader(self._content())
        return content

    def create(self, overwrite: bool = False) -> OutputStream:
        """Return a stream that writes the object when it is closed.

        Raises FileExistsError if there is one already and it is not to be overwritten.
        """
        if not overwrite and self.exists():
            raise FileExistsError(f"{self.location} is there already.")
        return _Writing(self.location)

    def to_input_file(self) -> WholeObject:
        """Return the same object, to be read."""
        return self

    def _content(self) -> bytes:
        try:
            return objects.read_bytes(self.location)
        except MissingObjectError as error:
            raise FileNotFoundError(str(error)) from error


def _is_whole(location: str) -> bool:
    return location.startswith("s3://") and location.endswith(WHOLE)


def _is_small(location: str) -> bool:
    try:
        return location.startswith("s3://") and objects.size(location) <= SMALL
    except MissingObjectError:
        return False  # for whoever opens it to find out


class _Writing(io.BytesIO):
    """What was written so far; closing it writes the object."""

    def __init__(self, location: str) -> None:
        super().__init__()
        self._location = location

    def close(self) -> None:
        if not self.closed:
            objects.write_bytes(self._location, self.getvalue())
        super().close()
