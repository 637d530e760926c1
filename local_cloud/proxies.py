"""Past the environment's proxies: what is asked of this machine must not leave it."""

from __future__ import annotations

import os
import urllib.request
from collections.abc import Iterable

# For our own requests, which all go to this machine.
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def no_proxy_variables(hosts: Iterable[str]) -> dict[str, str]:
    """Return the variables by which other programs ask *hosts* directly, beside those of before.

    Both spellings: urllib, botocore and httpx go by the lower case where there is one, others by
    the upper case.
    """
    spellings = ("NO_PROXY", "no_proxy")
    known = {host.strip() for name in spellings for host in os.environ.get(name, "").split(",")}
    direct = ",".join(sorted({*hosts, *known} - {""}))
    return dict.fromkeys(spellings, direct)
