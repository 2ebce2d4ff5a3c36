"""A Redis that a test makes as full as it likes."""

from tests.support.servers import Node

# Beside it what clients' buffers take, which comes and goes, is less than a hundredth.
BALLAST_BYTES = 64 << 20
BALLAST = "ballast"


def ballast(node: Node) -> None:
    """Puts so much into a node that its share of the memory stands still."""
    node.command("SETRANGE", f"{{{_tag(node)}}}{BALLAST}", BALLAST_BYTES - 1, "x")


def fill(node: Node, percent: float) -> None:
    """Limits a node's memory so that it is that full; 0 takes the limit away."""
    used = int(node.client.info("memory")["used_memory"])
    node.command("CONFIG SET", "maxmemory", int(used * 100 / percent) if percent else 0)


def _tag(node: Node) -> str:
    """A hash tag whose slot the node has; of one that is no cluster any."""
    if not int(node.client.info("cluster")["cluster_enabled"]):
        return BALLAST
    mine = [slots for slots in node.command("CLUSTER SLOTS") if slots[2][1] == node.port]
    first, last = int(mine[0][0]), int(mine[0][1])
    return next(
        str(number) for number in range(100_000) if first <= int(node.command("CLUSTER KEYSLOT", str(number))) <= last
    )
