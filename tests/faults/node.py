"""A second node on this machine: `python -m tests.faults.node CPUS` joins the head at RAY_ADDRESS and prints, as JSON,
its id and the pid of its raylet. It ends when its standard input is closed.

`ray start` refuses to join a head that is bound to loopback; Ray's own tests of several nodes start them like this.
"""

import json
import os
import sys
from threading import Thread

from ray._private.node import Node
from ray._private.parameter import RayParams


def main(cpus: int) -> None:
    asked = RayParams(
        gcs_address=os.environ["RAY_ADDRESS"],
        redis_address=os.environ["RAY_ADDRESS"],
        node_ip_address="127.0.0.1",
        num_cpus=cpus,
        num_gpus=0,
        object_store_memory=100_000_000,
        min_worker_port=0,
        max_worker_port=0,
        node_manager_port=0,
        dashboard_agent_listen_port=None,
    )
    node = Node(asked, head=False, shutdown_at_exit=True, spawn_reaper=True)
    raylet = node.all_processes["raylet"][0].process
    Thread(target=raylet.wait, daemon=True).start()  # its workers look for its number, which a zombie still has
    print(json.dumps({"node": node._node_id, "raylet": raylet.pid}), flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main(int(sys.argv[1]))
