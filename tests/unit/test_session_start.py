"""A Ray that takes long to start on a busy machine is waited for."""

import inspect
from typing import Any

import pytest
from ray._private import node, services

from audioflow.engine.session import patient
from audioflow.errors import ClusterError


class Slow:
    """Stands for Ray's own look at the node, which is not there at first."""

    def __init__(self, misses: int) -> None:
        self.misses = misses

    def __call__(self, address: str, node_id: str) -> dict[str, str]:
        self.misses -= 1
        if self.misses >= 0:
            raise RuntimeError(f"{node_id} is not there")
        return {"node_id": node_id}


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr("audioflow.engine.session._LOOK_EVERY_S", 0.01)

    def install(misses: int) -> Slow:
        found = Slow(misses)
        monkeypatch.setattr(services, "get_node", found)
        return found

    return install


def test_a_node_that_comes_late_is_waited_for(slow: Any) -> None:
    mine = slow(5)
    with patient(30):
        assert services.get_node("here:1", "abc") == {"node_id": "abc"}
    assert services.get_node is mine
    assert mine.misses < 0


def test_one_that_never_comes_is_told_in_our_words(slow: Any) -> None:
    mine = slow(10**9)

    def start() -> None:
        with patient(0.1):
            try:
                services.get_node("here:1", "abc")
            except RuntimeError:
                raise Exception("The current node timed out during startup.") from None

    with pytest.raises(ClusterError, match=r"did not start .* within 0\.1 s: .*ray start --head"):
        start()
    assert services.get_node is mine


def test_other_faults_are_left_as_they_are() -> None:
    with pytest.raises(ValueError, match="no such argument"), patient(1):
        raise ValueError("no such argument")


def test_ray_asks_for_its_node_where_this_expects_it() -> None:
    """Ray's own code, as far as the wait depends on it."""
    assert "ray._private.services.get_node(" in inspect.getsource(node.Node.__init__)
    assert "timed out during startup" in inspect.getsource(node.Node.__init__)
