"""`gunicorn -k bridge.gunicorn.AsgiWorker app:app`: gunicorn's master plays main and prototype in one.

* worker.py: the two worker classes; how gunicorn comes to run Bridge's master
* master.py: that master: workers as under `bridged`, signals and hooks as under gunicorn
* reload.py: how it tries another version, after HUP or with `--reload`
* routers.py: its router process
* sockets.py: gunicorn's listening sockets
* logs.py: Bridge's lines in gunicorn's log
* settings.py: what becomes of each of gunicorn's settings
* import_path.py: what USR2 does to the path of modules
* hooks.py: pre_request, post_request, access log and max_requests around the application
"""

from bridge.gunicorn import import_path

import_path.mend()  # before anything else is looked for

from bridge.gunicorn.worker import AsgiWorker, WsgiWorker  # noqa: E402 - with the path as it should be

__all__ = ["AsgiWorker", "WsgiWorker"]
