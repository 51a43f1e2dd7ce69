"""The SuperNode's process: Flower's own, which ends with the one that started it."""

import sys

from ondevice.federate.deployed.child_process import end_with_parent


def main() -> None:
    """Runs until the parent ends it or has ended; arguments: its process id, Flower's options."""
    end_with_parent(int(sys.argv[1]))

    from flwr.supernode.cli.flower_supernode import flower_supernode

    sys.argv = ["flower-supernode", *sys.argv[2:]]
    flower_supernode()


if __name__ == "__main__":
    main()
