"""Which of our DAGs are switched off: one that is paused fails nothing, and tells nobody."""

from __future__ import annotations

from airflow.models.dag import DagModel
from airflow.utils.session import create_session
from sqlalchemy import select

from fruits.page.access import DAG_ID

# What is then left undone.
UNDONE = {
    DAG_ID: "Photographs wait in the bucket until somebody triggers it.",
    "fruits_cost_watchdog": "A cluster whose run is gone is ended by itself alone.",
    "fruits_retention": "What was removed from the tables is not deleted for good.",
}


def switched_off() -> dict[str, str]:
    """Return what is left undone by each of our DAGs that this Airflow has paused."""
    ours = select(DagModel.dag_id).where(DagModel.dag_id.in_(UNDONE), DagModel.is_paused)
    with create_session(scoped=False) as session:
        paused = set(session.scalars(ours))
    return {dag_id: undone for dag_id, undone in UNDONE.items() if dag_id in paused}
