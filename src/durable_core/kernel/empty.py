"""Empty: one empty dict and one empty list, for all who have nothing to put into theirs yet.

A worker has thousands of runs in memory, each with a dozen containers for what may happen to it,
and most of these stay empty. An empty dict of one's own is 64 bytes. Rules:

1. Whoever reads need not know: it is a dict, or a list.
2. Whoever puts something in does so after ``self.units = self.units or {}``. It must be the only
   one who refers to it. To forget this raises.
"""

from __future__ import annotations

from typing import Any, Final, NoReturn


def _refuse(*args: Any, **kwargs: Any) -> NoReturn:
    raise TypeError("this is everybody's: say `self.it = self.it or {}` first")


class _NoDict(dict[Any, Any]):
    __slots__ = ()
    __setitem__ = setdefault = update = __ior__ = _refuse


class _NoList(list[Any]):
    __slots__ = ()
    append = extend = insert = __iadd__ = _refuse


NO_DICT: Final[dict[Any, Any]] = _NoDict()
NO_LIST: Final[list[Any]] = _NoList()
