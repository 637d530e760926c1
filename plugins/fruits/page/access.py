"""Who may see the page: whoever may see the runs of the ingestion DAG, and nobody else.

Airflow mounts the FastAPI apps of plugins without any authentication, so the app has to ask for it:
here with the dependency by which Airflow's own API guards a DAG's runs, which takes the session
cookie of the UI or a bearer token, and asks whichever auth manager is configured.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity
from airflow.api_fastapi.core_api.security import requires_access_dag
from fastapi import Depends, Request, Response, status
from fastapi.exception_handlers import http_exception_handler
from fastapi.exceptions import HTTPException
from fastapi.responses import RedirectResponse

DAG_ID = "fruits_ingestion"


def may_see() -> Any:
    """Return the dependency that lets nobody in who may not see the runs of the ingestion."""
    return Depends(requires_access_dag("GET", DagAccessEntity.RUN, param_dag_id=DAG_ID))


async def send_to_login(request: Request, error: Exception) -> Response:
    """Send a person whose session is over to Airflow's login, and from there back here."""
    if not isinstance(error, HTTPException):
        raise error
    reads_pages = "text/html" in request.headers.get("accept", "")
    if error.status_code == status.HTTP_401_UNAUTHORIZED and reads_pages:
        login = get_auth_manager().get_url_login()
        return RedirectResponse(f"{login}?{urlencode({'next': str(request.url)})}", 307)
    return await http_exception_handler(request, error)
