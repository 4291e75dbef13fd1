"""JSON and SHA-256 as the recorder needs them, without the modules of these names: these import `re`, `enum` and OpenSSL,
which takes 15 ms of each start of a program that may need none of it.

CPython's own accelerators of both are used where they are as they always were, which is tried here; else the modules.
"""


def by_accelerator():
    """`dumps` and `loads` of the C functions behind `json`."""
    from _json import encode_basestring_ascii, make_encoder, make_scanner
    encode = make_encoder(None, None, encode_basestring_ascii, None, ": ", ", ", False, False, True)

    class Context(object):
        strict, object_hook, object_pairs_hook, parse_float, parse_int, memo = False, None, None, float, int, {}
        parse_constant = staticmethod(float)

    scan = make_scanner(Context())

    def dumps(value):
        return "".join(encode(value, 0))

    def loads(text):
        return scan(text.strip(), 0)[0]

    probe = {"a": [1, 2.5, None, True, "\u00e4\"\n"], "b": {}}
    if dumps(probe) != '{"a": [1, 2.5, null, true, "\\u00e4\\"\\n"], "b": {}}' or loads(dumps(probe)) != probe:
        raise ValueError("another form")
    return dumps, loads


try:
    dumps, loads = by_accelerator()
except Exception:
    from json import dumps, loads       # noqa: F401

try:
    from _sha2 import sha256            # Python 3.12
except ImportError:
    try:
        from _sha256 import sha256
    except ImportError:
        from hashlib import sha256      # noqa: F401
