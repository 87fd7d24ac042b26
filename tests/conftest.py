"""Fixtures that several test files share."""

import os
from pathlib import Path

import pytest
import torch

from pose.config_files import import_mmengine
from pose.native.library import NativeError, load_inference

import_mmengine()  # before the workers start: some test files import it themselves, all at once


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data, POSE_TEST_DATA or ../shared/data; a test that needs it is skipped where it is absent."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("POSE_TEST_DATA") or beside).absolute()
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}; POSE_TEST_DATA names another folder")
    return folder


@pytest.fixture(scope="session")
def native_layers() -> None:
    """The native layers for inference, built; a test that needs them is skipped where they cannot be."""
    try:
        load_inference()
    except NativeError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """The networks of the tests are so small that threads only wait for each other, long where cores are busy."""
    torch.set_num_threads(1)
