"""The rules for every test: nothing outside this machine is reached, and warnings are errors."""

import socket
import warnings

import pytest


@pytest.fixture(scope="module")
def early() -> str:
    """The error of a connection from a module's fixture, which runs before those of a test."""
    with pytest.raises(OSError) as caught:
        socket.create_connection(("192.0.2.1", 80), timeout=1)  # an address kept for documentation
    return str(caught.value)


def test_other_machines_are_out_of_reach(early: str) -> None:
    assert early == "a test tried to reach 192.0.2.1"
    with pytest.raises(OSError, match="a test tried to reach example.org"):
        socket.getaddrinfo("example.org", 80)
    with socket.socket() as client, pytest.raises(OSError, match="a test tried to reach 192.0.2.1"):
        client.connect_ex(("192.0.2.1", 80))


def test_this_machine_can_be_reached() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname()[:2]) as client,
    ):
        assert client.getpeername() == server.getsockname()


def test_warnings_are_errors() -> None:
    with pytest.raises(UserWarning, match="careless"):
        warnings.warn("careless", stacklevel=1)
