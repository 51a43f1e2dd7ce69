"""The SuperNode's process: Flower's own, which ends with the one that started it."""

import sys

from ondevice.federate.deployed.child_process import end_with_parent

HEARTBEAT_S = 10  # The least that a SuperLink takes.


def main() -> None:
    """Runs until the parent ends it or has ended; arguments: its process id, Flower's options."""
    end_with_parent(int(sys.argv[1]))

    from flwr.supercore import heartbeat
    from flwr.supernode import fleet_http_connection
    from flwr.supernode.cli.flower_supernode import flower_supernode

    # A server misses a node, and lets it in again, after two without one; Flower has no option.
    heartbeat.HEARTBEAT_DEFAULT_INTERVAL = HEARTBEAT_S
    fleet_http_connection.HEARTBEAT_DEFAULT_INTERVAL = HEARTBEAT_S
    sys.argv = ["flower-supernode", *sys.argv[2:]]
    flower_supernode()


if __name__ == "__main__":
    main()
