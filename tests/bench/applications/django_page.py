"""A page of a Django project: URL with a parameter and a template, no middleware; synchronous and asynchronous.

A middleware would hand each request of the asynchronous view to a thread, and that would be what is measured.
"""

from __future__ import annotations

import django
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, HttpResponse
from django.template import Context, Engine
from django.urls import path

settings.configure(
    ALLOWED_HOSTS=["*"],
    DEBUG=False,
    ROOT_URLCONF=__name__,
    SECRET_KEY="of a benchmark",
)
django.setup(set_prefix=False)
PAGE = Engine().from_string(
    "<!doctype html><title>{{ name }}</title>\n<h1>{{ name }}, page {{ page }}</h1>\n"
    "<ul>{% for item in items %}<li>{{ item }}</li>\n{% endfor %}</ul>\n"
)


def page(request: HttpRequest, name: str) -> HttpResponse:
    """The page of a name."""
    items = [f"item {number}" for number in range(20)]
    return HttpResponse(PAGE.render(Context({"name": name, "page": request.GET.get("page", "1"), "items": items})))


async def page_async(request: HttpRequest, name: str) -> HttpResponse:
    """The same as a coroutine: a synchronous view under ASGI would be handed to a thread."""
    return page(request, name)


urlpatterns = [path("items/<name>", page), path("async/<name>", page_async)]
wsgi = get_wsgi_application()
asgi = get_asgi_application()
