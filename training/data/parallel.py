"""One function over many pictures, with a bar.

Threads and not processes: Pillow, OpenCV and libjpeg let go of the interpreter while they work.
"""

from collections.abc import Callable, Collection, Iterator
from multiprocessing.pool import ThreadPool
from typing import TypeVar

from tqdm import tqdm

from training.params import params

Item = TypeVar("Item")
Result = TypeVar("Result")


def mapped(function: Callable[[Item], Result], items: Collection[Item], description: str) -> Iterator[Result]:
    """The results in the order of the items."""
    with ThreadPool(params()["data"]["processes"]) as pool:
        results = pool.imap(function, items)
        # No bar where nobody looks: None asks whether this is a terminal.
        yield from tqdm(results, total=len(items), desc=description, unit="img", mininterval=1, disable=None)
