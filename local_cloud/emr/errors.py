"""The refusals that EMR gives, each with the code and the HTTP status of its answer."""

from __future__ import annotations


class EmrError(Exception):
    """A call that is not carried out: *code* is what boto3 shows as ClientError's code.

    By itself, without a refusal of its own, it is a fault of the endpoint.
    """

    code = "InternalServerException"
    status = 500

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class ValidationError(EmrError):
    """The request is malformed, names what is not supported, or asks for what cannot be."""

    code = "ValidationException"
    status = 400


class InvalidRequestError(EmrError):
    """The request names a cluster, step or marker that does not exist in its region."""

    code = "InvalidRequestException"
    status = 400


class UnknownOperationError(EmrError):
    """The action is none of EMR's, or one that this endpoint does not have."""

    code = "UnknownOperationException"
    status = 400


class CredentialError(EmrError):
    """The request carries no SigV4 credential scope, so it names no region."""

    code = "MissingAuthenticationTokenException"
    status = 403
