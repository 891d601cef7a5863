"""`gunicorn -k bridge.gunicorn.AsgiWorker app:app`: gunicorn's master plays main and prototype in one.

* worker.py: the two worker classes; how gunicorn comes to run Bridge's master
* master.py: that master: workers as under `bridged`, signals and hooks as under gunicorn
* reload.py: how it tries another version, after HUP or with `--reload`
* routers.py: its router process
* sockets.py: gunicorn's listening sockets
* logs.py: Bridge's lines in gunicorn's log
* settings.py: what becomes of each of gunicorn's settings
* hooks.py: pre_request, post_request, access log and max_requests around the application
"""

from bridge.gunicorn.worker import AsgiWorker, WsgiWorker

__all__ = ["AsgiWorker", "WsgiWorker"]
