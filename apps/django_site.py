"""A Django project in one file.

    bridged run --app-dir apps django_site:application --threads 4      then open http://127.0.0.1:8000

`application` is its WSGI handler; `django_site:asgi` is the other one.
"""

from __future__ import annotations

import os

import django
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.core.wsgi import get_wsgi_application
from django.http import Http404, HttpRequest, HttpResponse
from django.urls import path, reverse
from django.utils.html import format_html, format_html_join

from page import page

settings.configure(
    ALLOWED_HOSTS=["*"],  # an example, served under whatever name you have for it
    DEBUG=False,
    MIDDLEWARE=["django.middleware.common.CommonMiddleware"],
    ROOT_URLCONF=__name__,
    SECRET_KEY=os.environ.get("SECRET_KEY", "nothing here is signed"),
)
django.setup(set_prefix=False)

COLOURS = {"amber": "#d98a00", "moss": "#5f8a3a", "slate": "#5a6b85"}


def index(request: HttpRequest) -> HttpResponse:
    """The colours, each with a link that Django has made."""
    links = format_html_join(
        "", '<a class="card" href="{}"><b>{}</b></a>', ((reverse("colour", args=[name]), name) for name in COLOURS)
    )
    body = format_html(
        '<div class="cards">{}</div><p>SCRIPT_NAME is <code>{}</code>.</p>'
        "<footer>All links come from <code>reverse()</code>: no prefix stands in the code.</footer>",
        links,
        root(request) or "(empty)",
    )
    lead = "A project that knows nothing of the prefix it lives below."
    return HttpResponse(page("Django", lead, body, root(request)))


def colour(request: HttpRequest, name: str) -> HttpResponse:
    """One of them, or a 404 that Django makes."""
    if name not in COLOURS:
        raise Http404
    body = format_html(
        '<div class="card" style="height:8rem;background:{}"></div><p><a href="{}">Back to the others</a></p>',
        COLOURS[name],
        reverse("index"),
    )
    return HttpResponse(page(name, "A view with a parameter from the path.", body, root(request)))


def root(request: HttpRequest) -> str:
    """The prefix, which Django calls the script name under WSGI and ASGI alike."""
    return str(request.META.get("SCRIPT_NAME", ""))


urlpatterns = [path("", index, name="index"), path("colours/<slug:name>/", colour, name="colour")]
application = get_wsgi_application()
asgi = get_asgi_application()
