"""A deployment with other domains than the default one, on the servers of the tests."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from compose.local import envfile
from compose.local.stack import Stack
from tasks.settings import settings
from tests.conftest import PROCESSES, PROJECT, STARTED
from tests.integration import forked


@contextmanager
def serving(stack: Stack, *modules: str) -> Iterator[Stack]:
    """All processes serve these domains, with tables, topics and rights for them; at the end nothing runs."""
    before = stack.env
    with pytest.MonkeyPatch.context() as patch:
        # Accounts are made in the tests' process, with rights in every domain.
        patch.setenv("DOMAINS", ",".join(modules))
        settings.cache_clear()
        stop(stack)
        envfile.write(stack.layout.env, {**before, "DOMAINS": ",".join(modules)})
        try:
            stack.up(PROCESSES)
            yield stack
        finally:
            stop(stack)
            envfile.write(stack.layout.env, before)
    settings.cache_clear()


def change(stack: Stack, *modules: str) -> None:
    """Starts the processes again with these domains, and leaves tables, topics and rights as they are."""
    stop(stack)
    envfile.write(stack.layout.env, {**stack.env, "DOMAINS": ",".join(modules)})
    stack.up(PROCESSES, prepare=False)


def sluice(stack: Stack, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs a command in the deployment, as an operator does."""
    return forked.run("ingest.cli", *arguments, env={**os.environ, **stack.env}, cwd=PROJECT)


def stop(stack: Stack) -> None:
    """Stops what runs of the processes."""
    for status in stack.status():
        if status.name in PROCESSES and status.state in STARTED:
            stack.stop(status.name)
