"""Bridge below a user's gunicorn: `gunicorn -c config/gunicorn.conf.py --chdir apps hello:app`.

Every setting here is gunicorn's, with gunicorn's meaning. What Bridge does not honour it names at the start.
"""

# WSGI applications: bridge.gunicorn.WsgiWorker, and `threads` requests at once in each worker.
worker_class = "bridge.gunicorn.AsgiWorker"
workers = 2

# One router accepts on all of these; workers hold no connections.
bind = ["127.0.0.1:8000"]
backlog = 2048

# HUP, TTOU and max_requests lose no request: workers leave when others serve.
max_requests = 100_000
max_requests_jitter = 10_000
graceful_timeout = 30
timeout = 60  # a worker that stands still that long is killed

# The router's: seconds that an idle connection is kept, and what a client may send.
keepalive = 75
limit_request_line = 8190

# Peers whose X-Forwarded-For and X-Forwarded-Proto are believed.
forwarded_allow_ips = "127.0.0.1,::1"

# With gunicorn's own format the router writes the access log, with any other one the workers do.
accesslog = "-"
errorlog = "-"


def when_ready(server):
    """Run in the master, once the router and no worker has been started."""
    server.log.info("when_ready: %d address", len(server.LISTENERS))


def post_worker_init(worker):
    """Run in the worker, once the application is loaded."""
    worker.log.info("post_worker_init: worker %d", worker.age)


def post_request(worker, req, environ, resp):
    """Run in the worker, when a response is complete."""
    worker.log.info("post_request: %s %s -> %s, %d bytes", req.method, req.uri, resp.status, resp.sent)
