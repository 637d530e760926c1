"""What Airflow's UI shows of Fruits!: a page in its menu.

Every process of Airflow loads its plugins, but the API server alone answers requests: so nothing of
the page is imported before somebody asks for it. Buttons on tasks need no plugin: their operators
have them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import cached_property
from typing import Any, ClassVar
from urllib.parse import quote

from airflow.plugins_manager import AirflowPlugin

ICON = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 24 24" fill="none" stroke="{colour}" '
    'stroke-width="1.8" stroke-linecap="round" stroke-linejoin="round">'
    '<path d="M12 7.5c-2.2-1.9-7.5-1.6-7.5 4.6 0 5 3.3 8.9 5.6 8.9.9 0 1.2-.4 1.9-.4s1 .4 1.9.4'
    'c2.3 0 5.6-3.9 5.6-8.9 0-6.2-5.3-6.5-7.5-4.6z"/><path d="M12 7.5c0-2.6 1-4.3 3.3-5"/></svg>'
)


class LazyApp:
    """The page's app, made when the first request comes."""

    async def __call__(
        self,
        scope: dict[str, Any],
        receive: Callable[[], Awaitable[Any]],
        send: Callable[[Any], Awaitable[None]],
    ) -> None:
        """Answer one request."""
        await self._app(scope, receive, send)

    @cached_property
    def _app(self) -> Any:
        from fruits.page.app import make_app

        return make_app()


def _icon(colour: str) -> str:
    return f"data:image/svg+xml,{quote(ICON.format(colour=colour))}"


class FruitsPlugin(AirflowPlugin):
    """The page, and its place in the menu."""

    name = "fruits"
    fastapi_apps: ClassVar[list[Any]] = [
        {"app": LazyApp(), "url_prefix": "/fruits", "name": "Fruits!"}
    ]
    external_views: ClassVar[list[Any]] = [
        {
            "name": "Fruits!",
            # Relative: Airflow itself may be mounted under a path.
            "href": "fruits/",
            "url_route": "fruits",
            "destination": "nav",
            "nav_top_level": True,
            "icon": _icon("#1b663d"),
            "icon_dark_mode": _icon("#7fd1a0"),
        }
    ]
