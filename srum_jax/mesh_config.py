"""How devices are to be arranged. Imports no array library: `--set` is answered before one is loaded."""

import dataclasses
import math

from srum_jax.errors import BadInput
from srum_jax.models.compute import MESH_AXES


@dataclasses.dataclass(frozen=True)
class MeshConfig:
    """Devices along each axis; -1 on one of them takes what the others leave."""

    data: int = -1  # replicas of the state; batch rows
    fsdp: int = 1  # shards of the state; batch rows. On a TPU at most 32, and never all of 64 chips or more
    seq: int = 1  # shards of the tokens in a row, and further shards of the state
    tensor: int = 1  # shards of heads and MLP
    check_layout: bool = True  # on TPUs, refuse layouts that are known to be silently slow

    def shape(self, num_devices: int) -> tuple[int, ...]:
        """Sizes of the axes on a number of devices.

        Raises:
          BadInput: if they do not multiply to it.
        """
        sizes = {name: getattr(self, name) for name in MESH_AXES}
        free = [name for name, size in sizes.items() if size == -1]
        bad = [name for name, size in sizes.items() if size < 1 and size != -1]
        if bad or len(free) > 1:
            raise BadInput(f"mesh: expected positive sizes and at most one -1, found {sizes}.")
        known = math.prod(size for size in sizes.values() if size != -1)
        if num_devices % known or (not free and known != num_devices):
            raise BadInput(f"mesh: {sizes} cannot be laid over {num_devices} devices; the sizes must multiply to "
                            "their number (-1 on one axis fills up).")
        return tuple(num_devices // known if size == -1 else size for size in sizes.values())
