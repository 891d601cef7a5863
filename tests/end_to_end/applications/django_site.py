"""A Django project in one file, served through its ASGI handler, or as `wsgi` through the other."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator

import django
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.core.files.uploadedfile import UploadedFile
from django.core.handlers.asgi import ASGIRequest
from django.core.wsgi import get_wsgi_application
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse
from django.urls import path, reverse

settings.configure(
    ALLOWED_HOSTS=["*"],
    DEBUG=False,
    FILE_UPLOAD_MAX_MEMORY_SIZE=100_000,  # a larger file becomes a temporary one
    MIDDLEWARE=["django.middleware.common.CommonMiddleware"],
    ROOT_URLCONF=__name__,
    SECRET_KEY="of a test",
    SECURE_PROXY_SSL_HEADER=None,
)
django.setup(set_prefix=False)


def index(request: HttpRequest) -> HttpResponse:
    """A synchronous view."""
    return HttpResponse(f"{request.method} {request.get_host()} {request.is_secure()} {request.GET.get('q')}")


async def form(request: HttpRequest) -> HttpResponse:
    """Fields and files of a form."""
    files = {}
    for name, file in request.FILES.items():
        assert isinstance(file, UploadedFile)
        digest = hashlib.sha256(file.read()).hexdigest()
        files[name] = [file.name, file.size, digest, hasattr(file, "temporary_file_path")]
    return JsonResponse({"fields": request.POST.dict(), "files": files})


async def stream(_: HttpRequest) -> StreamingHttpResponse:
    """A response in pieces."""

    async def pieces() -> AsyncIterator[bytes]:
        for number in range(3):
            yield b"%d," % number

    return StreamingHttpResponse(pieces())


def item(request: HttpRequest, number: int) -> HttpResponse:
    """A path parameter, an exception that Django turns into a response, and one that it does not."""
    if number == 0:
        raise ZeroDivisionError("in the view")
    if number > 9:
        raise Http404
    return JsonResponse({"number": number, "asgi": isinstance(request, ASGIRequest)})


def where(request: HttpRequest) -> HttpResponse:
    """Its own place, as the URL table has it, and as the request was sent."""
    return HttpResponse(f"{reverse('where')} {request.build_absolute_uri()}")


urlpatterns = [
    path("", index),
    path("where", where, name="where"),
    path("form", form),
    path("stream", stream),
    path("item/<int:number>", item),
]
application = get_asgi_application()
wsgi = get_wsgi_application()
