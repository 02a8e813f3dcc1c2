"""What all tests share: one thread, so that numbers repeat and two cores go to two processes; the data's folder."""

import atexit
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from support.libraries import import_untraced

if "PYTEST_XDIST_WORKER" in os.environ:  # which works through all tests, and so imports all of them sooner or later
    import_untraced()

import torch

torch.set_num_threads(1)
os.environ["OMP_NUM_THREADS"] = "1"  # and so do the processes that tests start
if "DIG_DATA_ROOT" in os.environ:  # some tests change the folder, or link to the data
    os.environ["DIG_DATA_ROOT"] = str(Path(os.environ["DIG_DATA_ROOT"]).absolute())
if "DIG_TESTS_SHARED" not in os.environ:  # the processes of pytest-xdist have it from the one that starts them
    os.environ["DIG_TESTS_SHARED"] = tempfile.mkdtemp(prefix="dig-tests-")
    atexit.register(shutil.rmtree, os.environ["DIG_TESTS_SHARED"], ignore_errors=True)


# How long an example takes says how busy the machine is, and nothing of what is tested.
settings.register_profile("dig", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("dig")


@pytest.fixture(autouse=True, scope="session")
def lines() -> Iterator[None]:
    """What is said is printed, as the command line does: many tests read it."""
    from dig.engine.console import lines_to_console

    with lines_to_console():
        yield
