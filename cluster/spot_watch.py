"""Tell Ray when EC2 is about to take this machine away, so that no new work begins on it.

    nohup python spot_watch.py --address HEAD:6379 &

EC2 says so two minutes ahead, at an address that only the machine itself reaches. Ray does not
look there: this does, every few seconds, and then runs `ray drain-node`. What the machine was at
work on is made again by others; training goes on from its last epoch on other nodes.

Needs nothing but Python, Ray and the way to the head's Ray, not to its dashboard; start it beside
every `ray start` on a spot machine. With `--find` it says which node that is, and ends.
"""

import argparse
import http.client
import json
import re
import socket
import subprocess
import sys
import time
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any

METADATA = "169.254.169.254"
TOKEN_S = 21600
ANSWER_S = 2
RAY_S = 60
REASON = "DRAIN_NODE_REASON_PREEMPTION"
FAULT = "Error|Check failed"
"""In the line of Ray's that says what was wrong, where it is not the last."""


def notice(metadata: str) -> dict[str, Any] | None:
    """`{"action": "terminate", "time": "2026-01-31T08:22:00Z"}` where the end is announced.

    metadata: host, or host:port. Raises `OSError` where it does not answer as it should.
    """
    asked = {"X-aws-ec2-metadata-token-ttl-seconds": str(TOKEN_S)}
    status, token = _ask(metadata, "PUT", "/latest/api/token", asked)
    if status != HTTPStatus.OK:
        raise OSError(f"no token: status {status}")
    headers = {"X-aws-ec2-metadata-token": token}
    status, text = _ask(metadata, "GET", "/latest/meta-data/spot/instance-action", headers)
    if status == HTTPStatus.NOT_FOUND:  # nothing is announced
        return None
    if status != HTTPStatus.OK:
        raise OSError(f"status {status}")
    found = json.loads(text)
    return found if isinstance(found, dict) else None


def _ask(metadata: str, method: str, path: str, headers: dict[str, str]) -> tuple[int, str]:
    connection = http.client.HTTPConnection(metadata, timeout=ANSWER_S)
    try:
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.read().decode("utf-8", errors="replace")
    except http.client.HTTPException as error:
        raise OSError(f"no whole answer: {error!r}") from error
    finally:
        connection.close()


def seconds_left(found: dict[str, Any], now: datetime) -> int:
    """Seconds from now to the end; 0 where it has passed, or is not said."""
    try:
        end = datetime.fromisoformat(str(found.get("time")).replace("Z", "+00:00"))
    except ValueError:
        return 0
    return max(0, int((end - now).total_seconds()))


def node_id(address: str, ip: str) -> str:
    """The id under which Ray knows the worker node at this IP; raises `LookupError`.

    Asked in a process of its own, since Ray may end the one that asks.
    """
    command = [sys.executable, __file__, "--address", address, "--ip", ip, "--find"]
    return _run(command, "looking for this node").split()[-1]


def find(address: str, ip: str) -> str:
    """The same, asked in this process of the head's own list of nodes."""
    from ray._raylet import GcsClient
    from ray.core.generated.gcs_pb2 import GcsNodeInfo
    from ray.exceptions import RayError

    try:
        client = GcsClient(address=address)
        nodes = client.get_all_node_info(timeout=RAY_S, state_filter=GcsNodeInfo.ALIVE)
    except RayError as error:
        raise LookupError(f"{type(error).__name__}: {error}") from error
    return the_worker([(i.hex(), one) for i, one in nodes.items()], address, ip)


def the_worker(nodes: list[tuple[str, Any]], address: str, ip: str) -> str:
    """The id of the one that is at this IP and not the head; raises `LookupError`."""
    at_ip = [(name, one) for name, one in nodes if one.node_manager_address == ip]
    workers = [name for name, one in at_ip if not one.is_head_node]
    if len(workers) != 1:
        raise LookupError(f"{len(workers)} worker nodes at {ip} in the Ray at {address}, not one")
    return workers[0]


def drain(address: str, node: str, action: str, left: int) -> None:
    """Let nothing new begin on the node; what runs there has `left` seconds."""
    message = f"EC2 announced: {action} in {left} s"
    command = ["ray", "drain-node", "--address", address, "--node-id", node]
    reason = ["--reason", REASON, "--reason-message", message]
    _run([*command, *reason, "--deadline-remaining-seconds", str(left)], "`ray drain-node`")


def _run(command: list[str], what: str) -> str:
    try:
        done = subprocess.run(
            command, check=False, capture_output=True, text=True, timeout=RAY_S, errors="replace"
        )
    except subprocess.TimeoutExpired:
        raise LookupError(f"{what} gave no answer within {RAY_S} s") from None
    if done.returncode:
        lines = (done.stderr.strip() or done.stdout.strip()).splitlines() or [""]
        told = next((line for line in lines if re.search(FAULT, line)), lines[-1])
        raise LookupError(f"{what} ended with {done.returncode}: {told}")
    return done.stdout


def own_ip(address: str) -> str:
    """The IP by which this machine reaches the head, which is how Ray calls it."""
    host, _, port = address.rpartition(":")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((host, int(port)))  # sends nothing
        return str(probe.getsockname()[0])


def watch(address: str, node: str | None, ip: str, metadata: str, every_s: float) -> int:
    """Look until the end is announced and Ray knows; returns 0 then."""
    silent = False
    while True:
        try:
            found = notice(metadata)
            silent = False
        except (OSError, ValueError) as error:
            if not silent:
                say(f"{metadata} does not answer ({error}); going on to ask")
            silent, found = True, None
        if found is None:
            time.sleep(every_s)
            continue
        left = seconds_left(found, datetime.now(UTC))
        try:
            known = node or node_id(address, ip)
            drain(address, known, str(found.get("action")), left)
        except (LookupError, OSError, ValueError) as error:
            say(f"Ray was not told: {error}; trying again")
            time.sleep(every_s)
            continue
        say(f"told Ray to take nothing new on node {known}: {found.get('action')} in {left} s")
        return 0


def say(text: str) -> None:
    """One line, with the time, at once."""
    sys.stderr.write(f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} spot_watch: {text}\n")
    sys.stderr.flush()


def main(arguments: list[str] | None = None) -> int:
    """Read the arguments and watch."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--address", required=True, help="the head's Ray, as 10.0.0.1:6379")
    parser.add_argument("--node-id", help="this node in Ray; found by its IP where not given")
    parser.add_argument("--ip", help="this machine's IP in Ray; the one that reaches the head")
    parser.add_argument(
        "--metadata", default=METADATA, help="where EC2 announces the end, as HOST:PORT"
    )
    parser.add_argument("--every", type=float, default=5, help="seconds between two looks")
    parser.add_argument(
        "--find", action="store_true", help="say this node's id in Ray, and watch nothing"
    )
    given = parser.parse_args(arguments)
    host, colon, port = given.address.rpartition(":")
    if not (host and colon and port.isdigit()):
        parser.error(f"--address {given.address!r} is not HOST:PORT")
    ip = given.ip or own_ip(given.address)
    if given.find:
        try:
            sys.stdout.write(f"{find(given.address, ip)}\n")
        except LookupError as error:
            sys.stderr.write(f"{error}\n")
            return 1
        return 0
    return watch(given.address, given.node_id, ip, given.metadata, given.every)


if __name__ == "__main__":
    sys.exit(main())
