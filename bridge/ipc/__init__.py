"""Messages between two processes: synchronous, non-blocking, without an event loop."""
