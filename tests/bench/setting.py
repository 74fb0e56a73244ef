"""Settings for the processes that are started within a block."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from compose.local import envfile
from compose.local.stack import Stack


@contextmanager
def setting(stack: Stack, values: Mapping[str, str]) -> Iterator[None]:
    """Whatever is started meanwhile has these settings; what runs already keeps its own."""
    path = stack.layout.env
    before = path.read_text()
    path.write_text(envfile.render({**envfile.read(path), **values}))
    try:
        yield
    finally:
        path.write_text(before)
