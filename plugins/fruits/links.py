"""Buttons on a task in Airflow's UI: its cluster and its logs in AWS's console, the batch's report.

The provider has links of its own for the first two. Missing was: they are there only once the task
has ended, although one looks while a step runs; and the one to the logs ends at the bucket's root
when the logs lie in a folder, and knows no steps.

Airflow 3 stores what `get_link` returns when a task ends under `xcom_key`, and shows what it finds
there: so a task that says it earlier, with `tell`, has its button earlier.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from airflow.sdk import BaseOperatorLink

from fruits.consoles import cluster_url, folder_url

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator, Context
    from airflow.sdk.types import TaskInstanceKey

# Where the page is mounted in Airflow's API server.
MOUNT = "/fruits"


class ToldLink(BaseOperatorLink):
    """A link whose address the task itself knows, and tells as soon as it does."""

    @classmethod
    def tell(cls, context: Context, url: str) -> None:
        """Let the button of this task lead to *url*, from now on."""
        context["ti"].xcom_push(key=cls().xcom_key, value=url)

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:  # noqa: ARG002
        """Return the address that the task told, or '' if it has none."""
        from airflow.sdk.bases.xcom import BaseXCom

        told = BaseXCom.get_value(key=self.xcom_key, ti_key=ti_key)  # type: ignore[arg-type]
        return str(told or "")


class ClusterLink(ToldLink):
    """The cluster in the EMR console."""

    @property
    def name(self) -> str:
        """What the button says."""
        return "EMR cluster"


class LogsLink(ToldLink):
    """The logs of the cluster, or of the task's own step, in the S3 console."""

    @property
    def name(self) -> str:
        """What the button says."""
        return "EMR logs"


class ReportLink(ToldLink):
    """The batch's report, in Airflow."""

    @property
    def name(self) -> str:
        """What the button says."""
        return "Batch report"


EMR_LINKS = (ClusterLink(), LogsLink())


def tell_cluster(
    context: Context, region: str, lake: str, cluster_id: str, step_id: str | None = None
) -> None:
    """Let the task's buttons lead to the cluster and to its logs, those of *step_id* if given."""
    ClusterLink.tell(context, cluster_url(region, cluster_id))
    step = f"steps/{step_id}/" if step_id else ""
    LogsLink.tell(context, folder_url(region, f"{lake}/logs/{cluster_id}/{step}"))


def tell_report(context: Context, batch: str) -> None:
    """Let the task's button lead to the report of *batch*."""
    ReportLink.tell(context, report_url(batch))


def report_url(batch: str) -> str:
    """Return where Airflow shows the report of *batch*, wherever Airflow itself is mounted."""
    return f"{_root()}{MOUNT}/batches/{quote(batch)}"


def run_url(dag_id: str, run_id: str) -> str:
    """Return where Airflow shows a run; '' if it was not told where it is itself."""
    return f"{_root()}/dags/{quote(dag_id)}/runs/{quote(run_id)}" if _root() else ""


def _root() -> Any:
    from airflow.configuration import conf

    return (conf.get("api", "base_url", fallback="") or "").rstrip("/")
