"""Streams ⇄ ASGI: everything that touches an application's code."""
