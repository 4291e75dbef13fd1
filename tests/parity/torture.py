"""Statements that make line and branch numbers hard."""
import asyncio
import contextlib
import functools
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import collections


def decorate(f):
    @functools.wraps(f)
    def inner(*args, **kwargs):
        return f(*args, **kwargs)
    return inner


@decorate
@functools.lru_cache(
    maxsize=None,
)
def decorated(
    a,
    b=2,
):
    return a + b


class Base:
    """A class."""
    attribute = [
        n
        for n in range(3)
        if n % 2
    ]

    def method(self, n):
        while True:
            n -= 1
            if n < 0:
                break
            if n == 5:
                continue
        else:
            never = 1
        return n

    class Inner:
        def method(self): return 1

    def method2(self): ...


@contextlib.contextmanager
def manager(swallow=False):
    try:
        yield 1
    except ValueError:
        if not swallow:
            raise
    finally:
        done = True


def withs(kind):
    with manager() as a, \
            manager() as b:
        if kind == "return":
            return a + b
        x = 1
    with manager(swallow=True):
        raise ValueError("swallowed")
    for n in range(3):
        with manager():
            if n == 1:
                continue
            if n == 2:
                break
    return x


def tries(kind):
    try:
        if kind == "key":
            raise KeyError(kind)
        elif kind == "value":
            raise ValueError(kind)
    except KeyError as e:
        result = str(e)
    except (
        ValueError,
        TypeError,
    ):
        result = "value"
    else:
        result = "fine"
    finally:
        tries.last = kind
    return result


def matches(thing):
    match thing:
        case 1 | 2:
            return "small"
        case [a, *rest] if rest:
            return "list"
        case {"k": v}:
            return v
        case str():
            return "text"
        case _:
            return None


async def agen():
    for n in range(2):
        yield n


async def amain():
    async with contextlib.AsyncExitStack() as stack:
        stack.callback(lambda: None)
        async for n in agen():
            if n:
                await asyncio.sleep(0)
    return [m async for m in agen() if m]


def lambdas():
    f = lambda x: x + 1
    g = (
        lambda
        y:
        y * 2
    )
    return f(1)


def excluded(n):  # pragma: no cover
    if n:
        return 1
    return 2


def partial(n):
    if n:  # pragma: no branch
        n += 1
    return n


def generator():
    x = yield 1
    while x:
        x = yield from (n for n in [0])


def nested():
    def one():
        def two():
            return 2
        return two()
    return one() if len(sys.argv) > 1 else None


def long_call():
    return dict(
        a=1,
        b=[
            2,
            3,
        ],
        c="""
        text
        """,
    )


def raises():
    if "raise" in sys.argv:
        raise SystemExit(0)


for kind in ["none", "key", "value"]:
    tries(kind)
decorated(1)
Base().method(7)
withs("other")
for thing in (1, [1, 2], {"k": 1}):
    matches(thing)
asyncio.run(amain())
lambdas()
partial(1)
list(generator())
nested()
long_call()
raises()
if len(sys.argv) > 1:
    withs("return")
    matches("text")
    Base.Inner().method(); Base().method2()
elif not sys.argv:
    unreachable = 1
assert True, "never"
del thing
