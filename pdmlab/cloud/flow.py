"""What comes one after the other: for loops over a Cloud's, async for over an AsyncCloud's."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from typing import Generic

from pdmlab.cloud.both import M, Noun, T, now
from pdmlab.errors import ConfigError


class Flow(Noun[M], ABC, Generic[T, M]):
    """Items as they come; `_flow` is what yields them."""

    @abstractmethod
    def _flow(self) -> AsyncGenerator[T, None]: ...

    def __iter__(self) -> Iterator[T]:
        """Yield the items, of a Cloud."""
        if not self._rest.blocks:
            raise ConfigError(f"{self!r} is an AsyncCloud's", hint="write: async for each in …")
        return _driven(self._flow())

    def __aiter__(self) -> AsyncIterator[T]:
        """Yield the items, of an AsyncCloud."""
        if self._rest.blocks:
            raise ConfigError(f"{self!r} is a Cloud's, and blocks", hint="write: for each in …")
        return self._flow()


def _driven(flow: AsyncGenerator[T, None]) -> Iterator[T]:
    try:
        while True:
            try:
                item = now(flow.__anext__())
            except StopAsyncIteration:
                return
            yield item
    finally:
        now(flow.aclose())
