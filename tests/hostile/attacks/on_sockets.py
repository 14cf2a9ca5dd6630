"""Attacks through sockets: of the user's programs, of the host's services, and of flowherd."""

import ctypes
import json
import os
import socket
import urllib.request

import calls
from registry import Failed, Targets, attack, read

_TIMEOUT_S = 2.0


@attack("abstract-socket")
def abstract_socket(targets: Targets) -> str:
    return _greet(socket.AF_UNIX, "\0" + targets["abstract"])


@attack("socket-in-tmp")
def socket_in_tmp(targets: Targets) -> str:
    """As tmux, ssh-agent and X11 have it."""
    return _greet(socket.AF_UNIX, targets["sockets"]["tmp"])


@attack("socket-in-own-home")
def socket_in_own_home(targets: Targets) -> str:
    """As gpg-agent and newer ssh-agents have it."""
    return _greet(socket.AF_UNIX, targets["sockets"]["home"])


@attack("container-engine")
def container_engine(targets: Targets) -> str:
    return _greet(socket.AF_UNIX, targets["sockets"]["docker"])


@attack("user-bus")
def user_bus(targets: Targets) -> str:
    """By which `systemd-run --user` starts programs outside."""
    return _greet(socket.AF_UNIX, targets["sockets"]["bus"])


@attack("system-bus")
def system_bus(targets: Targets) -> str:
    return _greet(socket.AF_UNIX, targets["sockets"]["system_bus"])


@attack("service-manager")
def service_manager(targets: Targets) -> str:
    return _greet(socket.AF_UNIX, targets["sockets"]["systemd"])


@attack("terminal-multiplexer")
def terminal_multiplexer(targets: Targets) -> str:
    """GNU screen's, in /run/screen: it types into the user's terminals."""
    return _greet(socket.AF_UNIX, targets["sockets"]["screen"])


@attack("loopback")
def loopback(targets: Targets) -> str:
    return _greet(socket.AF_INET, ("127.0.0.1", targets["tcp_port"]))


@attack("datagram")
def datagram(targets: Targets) -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.sendto(targets["own_id"].encode(), ("127.0.0.1", targets["udp_port"]))
    return ""


@attack("listen-to-loopback")
def listen_to_loopback(targets: Targets) -> str:
    """All packets of the host, with the tokens in them."""
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3)) as listener:
        listener.settimeout(_TIMEOUT_S)
        while True:
            packet = listener.recv(65536)
            if b"packet:" in packet:
                return packet.partition(b"packet:")[2].decode("utf-8", "replace")


@attack("ring-for-sockets")
def ring_for_sockets(targets: Targets) -> str:
    """What a ring is asked for passes no filter of system calls, and it makes sockets too."""
    os.close(calls.call(calls.IO_URING_SETUP, 4, ctypes.create_string_buffer(120)))
    return "made"


@attack("hypervisor-socket")
def hypervisor_socket(targets: Targets) -> str:
    """Of a family that is in no network namespace. It connects to nothing."""
    with socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM):
        return "made"


@attack("control-socket")
def control_socket(targets: Targets) -> str:
    """By which the agent is paused, drained and restarted."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(_TIMEOUT_S)
        place = os.open(targets["state_dir"], os.O_RDONLY | os.O_DIRECTORY)
        client.connect("/proc/self/fd/{}/control.sock".format(place))
        client.sendall(b"GET /api/health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        answer = client.recv(65536).decode("utf-8", "replace")
    if not answer or answer.split()[1] in ("401", "403"):
        raise Failed("refused: {}".format(answer[:80]))
    return "answered " + answer.split("\r\n")[0]


@attack("lane-socket")
def lane_socket(targets: Targets) -> str:
    """The server's, which lets in its own user without a token."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(_TIMEOUT_S)
        place = os.open(os.path.join(targets["home"], "server"), os.O_RDONLY | os.O_DIRECTORY)
        client.connect("/proc/self/fd/{}/lane.sock".format(place))
    return "connected"


@attack("server-without-token")
def server_without_token(targets: Targets) -> str:
    return _ask(targets, "")


@attack("server-with-found-token")
def server_with_found_token(targets: Targets) -> str:
    """With the token of a file, of a process or of the environment: it can register a flow that runs outside."""
    places = [os.path.join(targets["home"], "server.token")]
    places += ["/proc/{}/environ".format(targets[name]) for name in ("agent", "fork_server", "server")]
    for place in [*places, "/proc/self/environ"]:
        try:
            text = read(place)
        except OSError:
            continue
        for part in text.replace("\0", "\n").split("\n"):
            token = part.strip().rpartition("=")[2]
            if token.startswith(targets["token_start"]):
                return _ask(targets, token)
    raise Failed("no token was found")


def _ask(targets: Targets, token: str) -> str:
    headers = {"Content-Type": "application/json"}
    if token:
        headers["Authorization"] = "Bearer " + token
    body = json.dumps({"query": "{ flow { name } }"}).encode()
    request = urllib.request.Request(targets["url"] + "/graphql", body, headers)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=_TIMEOUT_S) as answer:
        return str(answer.read().decode())


def _greet(family: int, address: object) -> str:
    """Connect and return what the listener says, which is its secret."""
    with socket.socket(family, socket.SOCK_STREAM) as client:
        client.settimeout(_TIMEOUT_S)
        client.connect(address)
        return client.recv(200).decode()
