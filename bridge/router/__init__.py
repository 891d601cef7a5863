"""HTTP ⇄ streams: everything that touches a client's connection."""
