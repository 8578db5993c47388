"""How much an image may ask for: what a whole head of 0.3 mm can need, and no more. Looked at before voxels are."""

# Voxels along an axis: 600 mm of them, as far as a field of view may reach.
LONGEST_SIDE = 2048
# Voxels in all: a field of view of 240 mm each way.
MOST_VOXELS = 2**29
# Bytes of them, as they are stored and not compressed: four a voxel.
MOST_BYTES = 4 * MOST_VOXELS
# Bytes before the voxels (a header's extensions), and bytes behind them.
MOST_BEFORE = 2**26
MOST_BEHIND = 2**26
# Bytes of a file.
MOST_IN_FILE = MOST_BEFORE + MOST_BYTES + MOST_BEHIND
