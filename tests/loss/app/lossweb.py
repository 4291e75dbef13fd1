"""A WSGI application: /N runs function N."""
import losswork

losswork.f11999()       # also in a master that only its workers tell of


def app(environ, start_response):
    getattr(losswork, "f" + environ["PATH_INFO"].strip("/"))()
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"done\n"]
