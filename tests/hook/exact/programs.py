"""Random programs: modules full of branches, each of which ends, and prints nothing.

    python programs.py FOLDER FIRST COUNT
"""
import os
import random
import sys


class Program(object):
    """One module; each function of it takes a random number generator, and calls the ones before."""

    def __init__(self, seed):
        self.random, self.lines, self.functions = random.Random(seed), [], 0

    def write(self, depth, text):
        self.lines.append("    " * depth + text)

    def pick(self, *choices):
        return self.random.choice(choices)

    def condition(self):
        return self.pick(
            "r.random() < 0.5", "r.random() < 0.9", "r.random() < 0.1", "not r.random() < 0.5", "a > b", "a % 2",
            "a and b", "a or b", "not a and b > 1", "a < 3 < b", "(a or\n            b)", "a is None", "b is not None",
            "any(x > a for x in range(b % 4))", "[x for x in range(a % 5) if x % 2]", "True", "False", "1", "(c := a + 1) > b",
            "(lambda x: x > 1)(a)", "a if b else r.random() < 0.5")

    def simple(self, in_loop):
        texts = ["a += 1", "b += a % 3", "a, b = b, a", "pass", "a = (b +\n            1)", "b = a if a > b else b", "d = {a: b, b: a}",
                 "a = sum(x for x in range(a % 4) if x)", "b = [y for x in range(3) for y in range(x) if y != a].count(1)",
                 "a = b and a or 1", "assert a is not None", "f = lambda: a\nINDENTa = f()", "s = {x for x in (a, b)}",
                 "global total; total += 1", "a = int(\n            a\n        )", "'a string alone'", "del r.__dict__, a; a = 1\n" if False else "a = a",
                 "a = (yield_ := a)", "print(a, end='', file=sink)", "raise_if(r, a)"]
        texts += ["break", "continue"] * in_loop
        return self.random.choice(texts)

    def body(self, depth, left, in_loop):
        for _ in range(self.random.randint(1, 3)):
            self.statement(depth, left - 1, in_loop)

    def statement(self, depth, left, in_loop):
        kinds = ["simple"] * 3 + ["return", "raise"]
        if left > 0:
            kinds += ["if", "if", "elif", "for", "while", "try", "with", "match", "one", "def", "class", "trystar", "forelse", "whiletrue",
                      "nested"]
        getattr(self, self.random.choice(kinds) + "_")(depth, left, in_loop)

    def simple_(self, depth, left, in_loop):
        for line in self.simple(in_loop).split("\n"):
            self.lines.append(line.replace("INDENT", "    " * depth) if line.startswith(("INDENT", " ")) else "    " * depth + line)

    def return_(self, depth, left, in_loop):
        self.write(depth, "if %s: return a" % self.condition())

    def raise_(self, depth, left, in_loop):
        self.write(depth, "if %s: raise ValueError(a)" % self.pick("r.random() < 0.1", "a > 100"))

    def one_(self, depth, left, in_loop):
        self.write(depth, self.pick("if %s: a += 1" % self.condition(), "for x in range(a %% 3): b += x if %s else 1" % self.condition(),
                                    "while b > 5: b -= 1", "def inner(): return a", "class C: a = 1", "class D: pass",
                                    "inner = lambda: %s" % self.condition()))

    def if_(self, depth, left, in_loop):
        self.write(depth, "if %s:" % self.condition())
        self.body(depth + 1, left, in_loop)
        if self.random.random() < 0.5:
            self.write(depth, "else:")
            self.body(depth + 1, left, in_loop)

    def elif_(self, depth, left, in_loop):
        self.write(depth, "if %s:" % self.condition())
        self.body(depth + 1, left, in_loop)
        for _ in range(self.random.randint(1, 3)):
            self.write(depth, "elif %s:" % self.condition())
            self.body(depth + 1, left, in_loop)

    def for_(self, depth, left, in_loop):
        self.write(depth, self.pick("for x in range(a % 4):", "for x, y in zip(range(3),\n%srange(b %% 3)):" % ("    " * (depth + 3)),
                                    "for x in [b for b in (1, 2) if b > 1]:", "for x in gen(r):"))
        self.body(depth + 1, left, True)

    def forelse_(self, depth, left, in_loop):
        self.for_(depth, left, in_loop)
        self.write(depth, "else:")
        self.body(depth + 1, left, in_loop)

    def while_(self, depth, left, in_loop):
        name = "n%d" % len(self.lines)
        self.write(depth, "%s = 0" % name)
        self.write(depth, "while %s < 3 and (%s):" % (name, self.condition()))
        self.write(depth + 1, "%s += 1" % name)
        self.body(depth + 1, left, True)
        if self.random.random() < 0.3:
            self.write(depth, "else:")
            self.body(depth + 1, left, in_loop)

    def whiletrue_(self, depth, left, in_loop):
        name = "n%d" % len(self.lines)
        self.write(depth, "%s = 0" % name)
        self.write(depth, "while %s:" % self.pick("True", "1"))
        self.write(depth + 1, "%s += 1" % name)
        self.write(depth + 1, "if %s > 3:" % name)
        self.write(depth + 2, "break")
        self.body(depth + 1, left, True)

    def try_(self, depth, left, in_loop):
        self.write(depth, "try:")
        self.body(depth + 1, left, in_loop)
        self.write(depth + 1, "raise_if(r, a)")
        how = self.random.randint(1, 7)
        if how & 1:
            self.write(depth, self.pick("except ValueError:", "except (ValueError, KeyError) as e:", "except KeyError:"))
            self.body(depth + 1, left, in_loop)
            if self.random.random() < 0.4:
                self.write(depth, "except Exception:")
                self.body(depth + 1, left, in_loop)
            if how & 4:
                self.write(depth, "else:")
                self.body(depth + 1, left, in_loop)
        if how & 2 or not how & 1:
            self.write(depth, "finally:")
            self.body(depth + 1, left, False)

    def trystar_(self, depth, left, in_loop):
        self.write(depth, "try:")
        self.body(depth + 1, left, False)
        self.write(depth + 1, "if r.random() < 0.5: raise ExceptionGroup('g', [ValueError(1)])")
        self.write(depth, "except* ValueError:")
        self.write(depth + 1, "a += 1")

    def with_(self, depth, left, in_loop):
        self.write(depth, self.pick("with context(a):", "with context(a) as c, context(b):", "with (context(a),\n%scontext(1)):" % ("    " * (depth + 2)),
                                    "with swallow():"))
        self.body(depth + 1, left, in_loop)

    def match_(self, depth, left, in_loop):
        self.write(depth, "match %s:" % self.pick("a", "(a, b)", "[a] * (b % 3)", "{'a': a}"))
        for case in self.random.sample(["case 0:", "case 1 | 2:", "case (x, y) if x > y:", "case [x]:", "case [x, *rest]:", "case {'a': 1}:", "case int():"],
                                       self.random.randint(1, 4)):
            self.write(depth + 1, case)
            self.body(depth + 2, left, in_loop)
        if self.random.random() < 0.5:
            self.write(depth + 1, "case _:")
            self.body(depth + 2, left, in_loop)

    def def_(self, depth, left, in_loop):
        name = "f%d" % len(self.lines)
        if self.random.random() < 0.3:
            self.write(depth, "@decorate")
        self.write(depth, "def %s(r, a=a, b=b):" % name)
        self.write(depth + 1, self.pick("global total", "'''words'''", "x = 1"))
        self.body(depth + 1, left, False)
        self.write(depth + 1, "return a")
        self.write(depth, "b = number(%s(r))" % name)

    def class_(self, depth, left, in_loop):
        name = "C%d" % len(self.lines)
        self.write(depth, "class %s:" % name)
        self.write(depth + 1, self.pick("'''words'''", "x = 1", "if total > 3: y = 1"))
        self.write(depth + 1, "def m(self, r, a, b):")
        self.body(depth + 2, left, False)
        self.write(depth, "%s().m(r, a, b)" % name)

    def nested_(self, depth, left, in_loop):
        self.write(depth, "a = [%s for x in range(b %% 3)" % self.pick("x", "x if a else b", "(lambda: x)()"))
        self.write(depth + 2, "if x > 0 or %s]" % self.pick("a", "b", "r.random() < 0.5"))
        self.write(depth, "a = len(a)")

    def function(self):
        kind = self.random.random()
        number = self.functions
        self.functions += 1
        self.write(0, "")
        if self.random.random() < 0.2:
            self.write(0, "@decorate")
        self.write(0, "%sdef fun%d(r, a, b):" % ("async " if kind > 0.9 else "", number))
        if self.random.random() < 0.3:
            self.write(1, '"""Words."""')
        self.write(1, "global total")
        self.write(1, "total += 1")
        self.body(1, 3, False)
        if kind < 0.15:
            self.write(1, "yield a")
            self.body(1, 2, False)
            self.write(1, "yield b")
        if self.random.random() < 0.5:
            self.write(1, "return a")

    def text(self):
        self.lines += HEAD.splitlines()
        for _ in range(self.random.randint(3, 8)):
            self.function()
        self.lines += TAIL.replace("COUNT", str(self.functions)).replace("SEED", str(self.random.randint(0, 9999))).splitlines()
        return "\n".join(line for line in "\n".join(self.lines).replace("global total; ", "").split("\n")) + "\n"


HEAD = '''
import contextlib
import inspect
import io
import random

total = 0
sink = io.StringIO()


class context(object):
    def __init__(self, value):
        self.value = value

    def __enter__(self):
        return self.value

    def __exit__(self, *_):
        return False


def swallow():
    return contextlib.suppress(ValueError, KeyError)


def decorate(function):
    def inner(*args):
        return function(*args)
    return inner


def gen(r):
    yield 1
    if r.random() < 0.5:
        yield 2


def number(value):
    return value if isinstance(value, int) else 1


def raise_if(r, a):
    if r.random() < 0.2:
        raise ValueError(a)
    if r.random() < 0.1:
        raise KeyError(a)
'''

TAIL = '''

def run(r):
    for number in range(COUNT):
        for a, b in ((0, 1), (3, 2), (5, 7)):
            try:
                found = globals()["fun%d" % number](r, a, b)
                if inspect.isgenerator(found):
                    for _ in found:
                        pass
                elif inspect.iscoroutine(found):
                    try:
                        found.send(None)
                    except StopIteration:
                        pass
            except Exception:
                pass


run(random.Random(SEED))
'''


def main(folder, first, count):
    written = 0
    seed = first
    while written < count:
        text = Program(seed).text()
        seed += 1
        try:
            compile(text, "x", "exec")
        except SyntaxError:         # a `break` in an `except*`, a name before its `global`
            continue
        with open(os.path.join(folder, "m%d.py" % written), "w") as f:
            f.write(text)
        written += 1


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
