"""Which failures of a task are worth a retry: those that may pass, never those that cannot."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.sdk import ExceptionRetryPolicy, RetryAction, RetryDecision, RetryRule
from botocore.exceptions import ClientError, ParamValidationError

from fruits.errors import LASTING, FruitsError

if TYPE_CHECKING:
    from airflow.sdk import Context


class TransientFailures(ExceptionRetryPolicy):
    """Fails at once on what cannot pass by itself; leaves all else to *retries*.

    That is a FruitsError, unless it is transient, an answer of AWS in LASTING, and a call that is
    not one that AWS knows. (Credentials that are not found may pass: a machine's come from a
    service that may be slow.) Airflow's rules match classes. Missing was: an error that says itself
    whether it may pass, as that of a step does, which has a second try on the same cluster or has
    not.
    """

    def __init__(self) -> None:
        final = (FruitsError, ParamValidationError)
        super().__init__(
            rules=[RetryRule(kind, RetryAction.FAIL, reason="cannot pass") for kind in final]
        )

    def evaluate(
        self,
        exception: BaseException,
        try_number: int,
        max_tries: int,
        context: Context | None = None,
    ) -> RetryDecision:
        """Return what Airflow does about *exception*."""
        if isinstance(exception, FruitsError) and exception.transient:
            return RetryDecision(RetryAction.DEFAULT)
        if isinstance(exception, ClientError) and exception.response["Error"]["Code"] in LASTING:
            return RetryDecision(RetryAction.FAIL, reason="AWS will not change its answer")
        return super().evaluate(exception, try_number, max_tries, context)
