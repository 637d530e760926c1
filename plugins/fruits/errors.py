"""What can go wrong, each with the facts as fields and the way out in the message."""

from __future__ import annotations

from typing import ClassVar

# What AWS answers until somebody changes rights, names or the request. A cluster may be waiting
# meanwhile, and is paid for.
LASTING = frozenset(
    {
        "403",  # what is said of a HEAD, whose answer has no text
        "AccessDenied",
        "AccessDeniedException",
        "InvalidAccessKeyId",
        "InvalidClientTokenId",
        "NoSuchBucket",
        "SignatureDoesNotMatch",
        "UnauthorizedOperation",
        "UnrecognizedClientException",
        "ValidationException",
    }
)


class FruitsError(Exception):
    """A failure that a person has to act on: *what* happened and, if there is one, the *way_out*.

    Every further keyword becomes an attribute, so that callers need not parse the message.
    *transient* says that the same attempt may succeed a little later: a class does, or one failure.
    """

    transient: ClassVar[bool] = False

    def __init__(self, what: str, way_out: str = "", **facts: object) -> None:
        # Both are args, so that the exception survives pickling between processes.
        super().__init__(what, way_out)
        self.what = what
        self.way_out = way_out
        self.__dict__.update(facts)

    def __str__(self) -> str:
        return f"{self.what} {self.way_out}".rstrip()


class NoCatalogError(FruitsError):
    """PyIceberg's configuration, which its environment holds, has no catalog `fruits`."""


class LostTableError(FruitsError):
    """The lake has a table that the catalog does not know; fields: table, location."""

    table: str
    location: str


class MissingObjectError(FruitsError):
    """An object that has to be there is not; field: uri."""

    uri: str


class WrongBucketError(FruitsError):
    """The tables describe the images of another bucket; fields: expected, bucket."""

    expected: str
    bucket: str


class ListingError(FruitsError):
    """The images could not be listed to the end; fields: bucket, prefix."""

    transient = True
    bucket: str
    prefix: str


class TooManyRemovedError(FruitsError):
    """More images vanished than a slip explains; fields: deleted, rows, share, limit."""

    deleted: int
    rows: int
    share: float
    limit: float


class TooManyQuarantinedError(FruitsError):
    """More images are broken than usual; fields: quarantined, images, share, limit, reasons."""

    quarantined: int
    images: int
    share: float
    limit: float
    reasons: dict[str, int]


class ReconciliationError(FruitsError):
    """What a step wrote is not what it was asked for; fields: step, differences.

    *differences* is a tuple of `fruits.reconciliation.Difference`: kind, count, examples.
    """

    step: str
    differences: tuple[object, ...]


class StaleManifestError(FruitsError):
    """The table moved on since the manifest was written; fields: table, count, examples."""

    table: str
    count: int
    examples: tuple[str, ...]


class StaleVersionError(FruitsError):
    """A PCA version that a step kept is no longer there; field: model_version."""

    model_version: str


class CommitConflictError(FruitsError):
    """Other writers won every attempt at a commit; fields: table, attempts."""

    transient = True
    table: str
    attempts: int


class CommittedFileError(FruitsError):
    """A commit brings files that the table already has; fields: table, uris."""

    table: str
    uris: tuple[str, ...]


class DeletedFilesError(FruitsError):
    """Files were deleted between writing and committing them; fields: table, uris."""

    transient = True
    table: str
    uris: tuple[str, ...]


class UnreadableTableError(FruitsError):
    """A table holds what this package never writes; fields: table, uri."""

    table: str
    uri: str


class NoFeaturesError(FruitsError):
    """There is nothing to reduce; field: feature_model."""

    feature_model: str
