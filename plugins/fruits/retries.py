"""Which failures of a task are worth a retry: those that may pass, never those that cannot."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.sdk import ExceptionRetryPolicy, RetryAction, RetryDecision, RetryRule

from fruits.errors import FruitsError

if TYPE_CHECKING:
    from airflow.sdk import Context


class TransientFailures(ExceptionRetryPolicy):
    """Fails at once on a FruitsError, unless it is transient; leaves all else to *retries*.

    Airflow's rules match classes. Missing was: an error that says itself whether it may pass, as
    that of a step does, which has a second try on the same cluster or has not.
    """

    def __init__(self) -> None:
        super().__init__(rules=[RetryRule(FruitsError, RetryAction.FAIL, reason="cannot pass")])

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
        return super().evaluate(exception, try_number, max_tries, context)
