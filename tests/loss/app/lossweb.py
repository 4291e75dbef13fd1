"""A WSGI application: /N runs function N."""
import losswork


def app(environ, start_response):
    getattr(losswork, "f" + environ["PATH_INFO"].strip("/"))()
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"done\n"]
