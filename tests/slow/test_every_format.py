"""A dynamic network with every kind of layer, converted for every runtime that is installed: minutes."""

import pytest
from test_export import NETWORKS, network_of, settings_of

from pose.errors import MissingExtra
from pose.export.formats import FORMATS, export_file


@pytest.mark.slow
@pytest.mark.parametrize("network", ["narrow", "condconv"])
@pytest.mark.parametrize("name", [name for name, kind in FORMATS.items() if kind.writer])
def test_a_network_is_written_and_answers_the_same(tmp_path, name, network):
    settings = settings_of(*NETWORKS[network])
    path = tmp_path / f"pose{FORMATS[name].suffix}"
    try:
        difference = export_file(network_of(settings), settings, path, name)
    except MissingExtra as error:
        pytest.skip(str(error))
    assert all(part.exists() for part in FORMATS[name].paths(path))
    assert difference is None and not FORMATS[name].checked or difference <= 1e-4
