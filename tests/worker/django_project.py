"""Django in the process of the tests: its settings exist once, each file of tests has its own URLs."""

from __future__ import annotations

import sys
import types
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import django
from django.conf import settings
from django.test.utils import override_settings


@contextmanager
def django_project(name: str, *patterns: Any) -> Iterator[None]:
    """While this lasts Django serves these URL patterns.

    Args:
        name: of a module that is made for them.
        patterns: what Django calls urlpatterns.
    """
    if not settings.configured:
        settings.configure(ALLOWED_HOSTS=["*"], SECRET_KEY="of a test", LOGGING_CONFIG=None)
        django.setup()
    urls = types.ModuleType(name)
    urls.urlpatterns = list(patterns)  # type: ignore[attr-defined]
    sys.modules[name] = urls
    with override_settings(ROOT_URLCONF=name):
        yield
