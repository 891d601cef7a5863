"""Four applications that know nothing of one another, in one: objects and names, ASGI and WSGI."""

from __future__ import annotations

import bridge
import starlette_site

app = bridge.mount(
    {
        "/": starlette_site.app,
        "/api": "fastapi_site:app",
        "/shop/": "flask_site:app",
        "/django": "django_site:wsgi",
    },
    threads=3,
)
