"""Calls that are written once and made in two ways: at once by `Cloud`, and awaited by `AsyncCloud`.

A method is written as a coroutine over `self._rest`. The way that blocks never lets a coroutine wait, so that it runs
through in one go; the other one is awaited as usual. Within a coroutine, others are called as coroutines: what is
marked `both` is for those outside.
"""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine
from types import MethodType, TracebackType
from typing import Any, Concatenate, Generic, ParamSpec, Self, overload

from typing_extensions import TypeVar

from pdmlab.cloud.rest import Awaited, Blocking, Rest
from pdmlab.errors import ConfigError

P = ParamSpec("P")
T = TypeVar("T")
M = TypeVar("M", bound=Rest, default=Blocking)
"""The way: nouns of a Cloud are Noun[Blocking], which a plain Noun means too; those of an AsyncCloud Noun[Awaited]."""


def now(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine that never waits, and return its result."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        return done.value  # type: ignore[no-any-return]  # what a coroutine of T returns
    coroutine.close()
    raise ConfigError("a call that blocks would have waited", hint="await it: this object is an AsyncCloud's")


class Noun(Generic[M]):
    """Something of the service, seen through one way to it."""

    def __init__(self, rest: M) -> None:
        self._rest: M = rest


class both(Generic[P, T]):
    """A method written as a coroutine: a plain one of what a Cloud gives, a coroutine of what an AsyncCloud gives."""

    def __init__(self, function: Callable[Concatenate[Any, P], Coroutine[Any, Any, T]]) -> None:
        @functools.wraps(function)
        def blocking(noun: Noun[Blocking], *args: P.args, **kwargs: P.kwargs) -> T:
            return now(function(noun, *args, **kwargs))

        self._awaited, self._blocking = function, blocking
        self.__doc__ = function.__doc__

    @overload
    def __get__(self, noun: None, kind: object = None) -> Self: ...
    @overload
    def __get__(self, noun: Noun[Blocking], kind: object = None) -> Callable[P, T]: ...
    @overload
    def __get__(self, noun: Noun[Awaited], kind: object = None) -> Callable[P, Coroutine[Any, Any, T]]: ...
    def __get__(self, noun: Noun[Any] | None, kind: object = None) -> Any:
        if noun is None:
            return self
        return MethodType(self._blocking if noun._rest.blocks else self._awaited, noun)


class asked(Generic[T]):
    """A property that the service is asked for each time; an AsyncCloud's is awaited."""

    def __init__(self, function: Callable[[Any], Coroutine[Any, Any, T]]) -> None:
        self._function = function
        self.__doc__ = function.__doc__

    @overload
    def __get__(self, noun: None, kind: object = None) -> Self: ...
    @overload
    def __get__(self, noun: Noun[Blocking], kind: object = None) -> T: ...
    @overload
    def __get__(self, noun: Noun[Awaited], kind: object = None) -> Coroutine[Any, Any, T]: ...
    def __get__(self, noun: Noun[Any] | None, kind: object = None) -> Any:
        if noun is None:
            return self
        return now(self._function(noun)) if noun._rest.blocks else self._function(noun)


class Entered(Noun[M], ABC, Generic[M]):
    """What is used in a with statement, or in an async with; `_enter` and `_leave` are what they do."""

    @abstractmethod
    async def _enter(self) -> None: ...

    @abstractmethod
    async def _leave(self) -> None: ...

    def __enter__(self) -> Self:
        if not self._rest.blocks:
            raise ConfigError(f"{self!r} is an AsyncCloud's", hint="use it in an async with statement")
        now(self._enter())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        now(self._leave())

    async def __aenter__(self) -> Self:
        if self._rest.blocks:
            raise ConfigError(f"{self!r} is a Cloud's, and blocks", hint="use it in a plain with statement")
        await self._enter()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._leave()
