"""Turns edges of branches, as a live map has them, into coverage.py's arcs: by the interpreter that ran them.

Reads one request from stdin:
    {"coverage_dir": DIR, "optimize": LEVEL, "most": BYTES,
     "files": [{"source": FILE, "codes": [[LINE, CRC, CRC, [[OFFSET, OFFSET]...]]...]}]}
and answers one JSON object a line, for each file: "codes", for each an array of the arc [LINE, LINE] of each edge, or
null where none is one; null where that source has no such code. And "passed": arcs that no branch tells of, and
that were taken where both their lines ran: from a class or function of one line to what follows it, and from an `async
for`. A code object is known by its first line and the CRC-32 of its instructions and of its lines. An edge from the offset
ENTERED is the start of a code object of one line.
"""
import dis
import json
import os
import sys
from binascii import crc32

CACHE = dis.opmap["CACHE"]
EXTENDED_ARG = dis.opmap["EXTENDED_ARG"]
ENTERED = 0xFFFFFFFF
JUMPS = set(dis.hasjrel) | set(dis.hasjabs)


def ops(*names):
    return set(dis.opmap[name] for name in names if name in dis.opmap)


ALWAYS = ops("JUMP_FORWARD", "JUMP_BACKWARD", "JUMP_BACKWARD_NO_INTERRUPT")
BACKWARD = set(op for op in JUMPS if "BACKWARD" in dis.opname[op])
RETURNS = ops("RETURN_VALUE", "RETURN_CONST", "RETURN_GENERATOR")
LOADS = ops("LOAD_CONST")
ANEXT, ENDS_SEND, ENDS_ASYNC_FOR = ops("GET_ANEXT"), ops("END_SEND"), ops("END_ASYNC_FOR")
RAISES = ops("RAISE_VARARGS", "RERAISE")


def is_of_one_line(code, line):
    """Whether coverage.py sees a function or class, all of it on the line of its definition; decorators are before that."""
    if code.co_name.startswith("<generic parameters of "):
        return True
    return not code.co_name.startswith("<") and all(own in (None, line, code.co_firstlineno) for _, _, own in code.co_lines())


def codes_of(source, optimize):
    """All code objects of a source, by first line and digests, each with whether it has one line."""
    found, todo = {}, [(compile(source, "source", "exec", dont_inherit=True, optimize=optimize), False)]
    while todo:
        code, is_single = todo.pop()
        found[code.co_firstlineno, crc32(code.co_code), crc32(lines_of(code))] = code, is_single
        todo += ((part, is_of_one_line(part, line)) for part, line in parts_of(code))
    return found


def lines_of(code):
    """Offsets and lines, as the recorder has them: with or without columns they are the same."""
    return b"".join(number.to_bytes(4, "little") for entry in code.co_lines() for number in (entry[0], entry[1], entry[2] or 0))


def parts_of(code):
    """The code objects in one, each with the line of its definition."""
    lines = dict((offset, line) for begin, end, line in code.co_lines() for offset in range(begin, end, 2))
    loaded, extended = {}, 0
    for offset in range(0, len(code.co_code), 2):
        op, arg = code.co_code[offset], extended | code.co_code[offset + 1]
        extended = arg << 8 if op == EXTENDED_ARG else 0
        if op in LOADS:
            loaded[arg] = lines.get(offset)
    for number, part in enumerate(code.co_consts):
        if isinstance(part, type(code)):
            yield part, loaded.get(number, part.co_firstlineno)


class Resolver(object):
    """Follows the way from a branch to the next line, as coverage.py's tracer would have seen it."""

    def __init__(self, code, multiline, is_of_one_line=False):
        self.is_of_one_line = is_of_one_line
        self.code, self.bytes, self.lines = code, code.co_code, {}
        own = [line for _, _, line in code.co_lines() if line]
        self.last = max(own) if own else code.co_firstlineno
        for begin, end, line in code.co_lines():
            if line:
                for offset in range(begin, end, 2):
                    self.lines[offset] = multiline.get(line, line)
        self.handlers = [(entry.start, entry.end, entry.target) for entry in dis._parse_exception_table(code)]

    def arc(self, branch, destination, before=None):
        """The arc of an edge; None where another branch of the same line decides. Lines from `before` on are its own."""
        if branch == ENTERED:
            return (self.last, -self.code.co_firstlineno) if self.is_of_one_line else None
        source, offset, extended, seen = self.lines.get(branch), destination, 0, set()
        own = range(source if before is None else before, source + 1) if source else ()
        while source is not None and 0 <= offset < len(self.bytes) and offset not in seen:
            seen.add(offset)
            op, arg = self.bytes[offset], extended | self.bytes[offset + 1]
            if op == EXTENDED_ARG:
                extended = arg << 8
                offset += 2
                continue
            extended = 0
            line = self.lines.get(offset)
            if op != CACHE and line is not None and line not in own:
                return source, line
            if op in ALWAYS:
                offset = self.behind(offset) + (-2 if op in BACKWARD else 2) * arg
            elif op in RETURNS:
                return source, -self.code.co_firstlineno
            elif op in RAISES:
                offset = self.handler_of(offset)
                if offset is None:
                    return source, -self.code.co_firstlineno
            elif op in JUMPS:
                return None
            else:
                offset += 2
        return None

    def passed(self):
        """Arcs from the lines of classes and functions of one line to what follows, and from those of `async for`."""
        parts, extended, awaits = dict(enumerate(self.code.co_consts)), 0, False
        for offset in range(0, len(self.bytes), 2):
            op, arg = self.bytes[offset], extended | self.bytes[offset + 1]
            extended = arg << 8 if op == EXTENDED_ARG else 0
            part = parts.get(arg) if op in LOADS else None
            is_part = isinstance(part, type(self.code)) and is_of_one_line(part, self.lines.get(offset))
            if is_part or op in ENDS_ASYNC_FOR or op in ENDS_SEND and awaits:
                # Decorators are called after the definition, which is then given its name.
                yield self.arc(offset, offset, part.co_firstlineno if is_part else None)
            awaits = op in ANEXT or awaits and op not in ENDS_SEND

    def behind(self, offset):
        """Where the next instruction is: jumps are measured from there."""
        offset += 2
        while offset < len(self.bytes) and self.bytes[offset] == CACHE:
            offset += 2
        return offset

    def handler_of(self, offset):
        for begin, end, target in self.handlers:
            if begin <= offset < end:
                return target
        return None


def multiline_map(path):
    """Each line of a statement of several to its first."""
    from coverage.parser import multiline_map_from_text
    from coverage.python import get_python_source
    try:
        return multiline_map_from_text(get_python_source(path))
    except Exception:
        return {}


def arcs_of(path, codes, optimize):
    with open(path, "rb") as f:
        known = codes_of(f.read(), optimize)
    multiline = multiline_map(path)
    passed = set(arc for code, _ in known.values() for arc in Resolver(code, multiline).passed())
    return {"codes": list(arcs_of_codes(codes, known, multiline)), "passed": sorted(filter(None, passed))}


def arcs_of_codes(codes, known, multiline):
    for line, code_digest, lines_digest, edges in codes:
        code, is_single = known.get((line, code_digest, lines_digest), (None, False))
        if code is None:
            yield None
        else:
            resolver = Resolver(code, multiline, is_single)
            yield [resolver.arc(*edge) for edge in edges]


def main():
    request = json.load(sys.stdin)
    sys.path = [f for f in sys.path if f != os.path.dirname(os.path.abspath(__file__))]
    sys.path.insert(0, request["coverage_dir"])
    for file in request["files"]:
        try:
            if not os.path.isfile(file["source"]) or os.path.getsize(file["source"]) > request["most"]:
                raise ValueError("no source")
            answer = arcs_of(file["source"], file["codes"], request["optimize"])
        except Exception:           # whatever keeps it from being compiled
            answer = {"codes": [None] * len(file["codes"]), "passed": []}
        print(json.dumps(answer, separators=(",", ":")))


main()
