"""EMR's wire format: JSON 1.1 in, checked against botocore's own model, JSON 1.1 out.

The signature itself is not verified: the server listens on this machine alone. Its credential
scope is read, because the region of a request is the region of its clusters.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import botocore.session
from botocore.model import ListShape, MapShape, OperationModel, Shape, StringShape, StructureShape
from botocore.validate import ParamValidator

from local_cloud.emr.errors import (
    CredentialError,
    EmrError,
    InvalidRequestError,
    UnknownOperationError,
    ValidationError,
)
from local_cloud.emr.supported import HONOURED, unsupported

_TARGET = "ElasticMapReduce."
_SCOPE = re.compile(r"Credential=[^/,\s]+/\d{8}/([a-z0-9-]+)/elasticmapreduce/aws4_request")


@dataclass(frozen=True)
class Call:
    """A request that can be carried out: everything in it is modelled and supported."""

    action: str
    region: str
    parameters: dict[str, Any]


def region_of(headers: Mapping[str, str]) -> str:
    """Return the region in the SigV4 credential scope; CredentialError when there is none."""
    found = _SCOPE.search(headers.get("Authorization") or "")
    if not found:
        raise CredentialError("Missing Authentication Token: sign the request with SigV4")
    return found[1]


def action_of(headers: Mapping[str, str]) -> str:
    """Return the action that the headers name; UnknownOperationError with the name if not ours."""
    target = headers.get("X-Amz-Target") or ""
    action = target.removeprefix(_TARGET)
    if not target.startswith(_TARGET) or action not in _model().operation_names:
        raise UnknownOperationError(f"EMR has no operation {target or '(none)'!r}")
    if action not in HONOURED:
        raise UnknownOperationError(
            f"The local EMR endpoint does not have {action}; it has {', '.join(sorted(HONOURED))}"
        )
    return action


def parse(body: bytes) -> dict[str, Any]:
    """Return the parameters in a request's body; ValidationError when it is not a JSON object."""
    try:
        parameters = json.loads(body or b"{}")
    except ValueError as error:
        raise ValidationError(f"The request's body is not JSON: {error}") from error
    if not isinstance(parameters, dict):
        raise ValidationError("The request's body must be a JSON object")
    return parameters


def check(action: str, parameters: dict[str, Any]) -> None:
    """Raise ValidationError, naming each parameter at fault, unless EMR's model allows all."""
    shape = _operation(action).input_shape
    if shape is None:
        raise TypeError(f"{action} has no input in EMR's model")
    report = ParamValidator().validate(parameters, shape)
    problems = [report.generate_report()] if report.has_errors() else []
    if not problems:
        problems = list(_constraints(shape, parameters, ""))
    if not problems and (ignored := unsupported(action, parameters)):
        problems = [f"The local EMR endpoint does not support {', '.join(ignored)} in {action}"]
    if problems:
        raise ValidationError("; ".join(problems))


def serialize(action: str, answer: dict[str, Any]) -> bytes:
    """Return *answer* as a response's body; it may hold only what the output shape has.

    Values that are None are left out, as EMR leaves them out. Times are seconds since the epoch.
    """
    shape = _operation(action).output_shape
    return json.dumps(_shaped(shape, answer, action) if shape else {}).encode()


def error_body(error: EmrError) -> bytes:
    """Return the envelope in which boto3 finds the error's code and message."""
    body = {"__type": error.code, "message": error.message}
    if isinstance(error, InvalidRequestError):
        body = {"__type": error.code, "ErrorCode": error.code, "Message": error.message}
    return json.dumps(body).encode()


@cache
def _model() -> Any:
    return botocore.session.get_session().get_service_model("emr")


def _operation(action: str) -> OperationModel:
    operation: OperationModel = _model().operation_model(action)
    return operation


def _constraints(shape: Shape | None, value: Any, path: str) -> Iterator[str]:
    """Yield what ParamValidator does not look at: enums, patterns and upper bounds."""
    if isinstance(shape, StructureShape):
        for name, below in value.items():
            yield from _constraints(shape.members[name], below, f"{path}.{name}".strip("."))
    elif isinstance(shape, ListShape):
        for index, item in enumerate(value):
            yield from _constraints(shape.member, item, f"{path}[{index}]")
    elif isinstance(shape, MapShape):
        for key, item in value.items():
            yield from _constraints(shape.value, item, f"{path}.{key}")
    elif shape is not None:
        yield from _scalar_constraints(shape, value, path)


def _scalar_constraints(shape: Shape, value: Any, path: str) -> Iterator[str]:
    enum = shape.enum if isinstance(shape, StringShape) else []
    if enum and value not in enum:
        yield f"{path}: {value!r} is not one of {', '.join(enum)}"
    maximum = shape.metadata.get("max")
    size = len(value) if isinstance(value, str) else value
    if maximum is not None and size > maximum:
        yield f"{path}: {size} is more than the maximum {maximum}"
    if (pattern := shape.metadata.get("pattern")) and not _matches(str(pattern), str(value)):
        yield f"{path}: {value!r} does not match {pattern}"


def _matches(pattern: str, value: str) -> bool:
    # The model writes characters outside the BMP as UTF-16 surrogate pairs; Python has one each.
    pattern = pattern.replace(r"\uD800\uDC00-\uDBFF\uDFFF", r"\U00010000-\U0010FFFF")
    return re.fullmatch(pattern, value) is not None


def _shaped(shape: Shape, value: Any, path: str) -> Any:
    if isinstance(shape, StructureShape):
        if extra := set(value) - set(shape.members):
            raise TypeError(f"{path}: EMR's answer has no {', '.join(sorted(extra))}")
        return {
            name: _shaped(shape.members[name], below, f"{path}.{name}")
            for name, below in value.items()
            if below is not None
        }
    if isinstance(shape, ListShape):
        return [_shaped(shape.member, item, f"{path}[]") for item in value]
    return value
