"""Linear interpolation of several voxel rows at once, eight rays to a vector register.

Reading two neighbours per ray one by one is what slows a projector down. But all voxel rows of a slice are read at the same
positions, and eight neighbouring rays draw on about ten neighbouring voxels: a small banded matrix, multiplied from registers.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

LANES = 8
"""Rays to a vector register (256 bits of float32)."""
LINES = 8
"""Voxel rows interpolated together: as many sums as the registers hold."""
FLOAT_BYTES = 4


@intrinsic  # type: ignore[untyped-decorator]
def interpolate_block(typing: Any, levels: Any, start: Any, weights: Any, taps: Any, out: Any, column: Any) -> Any:
    """Compiled: out[i, column + lane] = sum over t < taps of levels[i, start + t] * weights[t, column + lane].

    levels: float32 [LINES, voxel]; weights: float32 [tap, ray]; out: float32 [LINES, ray]; rows contiguous, no bounds checked.
    """
    signature = types.void(levels, types.intp, weights, types.intp, out, types.intp)
    lanes = ir.VectorType(ir.FloatType(), LANES)
    blank = ir.Constant(lanes, ir.Undefined)
    spread = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
    fused = ("contract",)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        start, taps, column = arguments[1], arguments[3], arguments[5]

        def word(number: int) -> Any:
            return ir.Constant(start.type, number)

        def rows(position: int, offset: Any) -> tuple[Callable[[Any], Any], Any]:
            array = context.make_array(signature.args[position])(context, builder, arguments[position])
            stride = builder.sdiv(cgutils.unpack_tuple(builder, array.strides)[0], word(FLOAT_BYTES))
            return lambda row: builder.gep(array.data, [builder.add(offset, builder.mul(stride, row))]), lanes.as_pointer()

        level_at, _ = rows(0, start)
        weight_at, pack = rows(2, column)
        out_at, _ = rows(4, column)
        level_rows = [level_at(word(i)) for i in range(LINES)]
        sums = [cgutils.alloca_once_value(builder, ir.Constant(lanes, [0.0] * LANES)) for _ in range(LINES)]
        for total in sums:
            builder.store(ir.Constant(lanes, [0.0] * LANES), total)
        with cgutils.for_range(builder, taps) as loop:
            weight = builder.load(builder.bitcast(weight_at(loop.index), pack), align=FLOAT_BYTES)
            for row, total in zip(level_rows, sums, strict=True):
                level = builder.load(builder.gep(row, [loop.index]))
                level = builder.insert_element(blank, level, ir.Constant(ir.IntType(32), 0))
                term = builder.fmul(builder.shuffle_vector(level, blank, spread), weight, flags=fused)
                builder.store(builder.fadd(builder.load(total), term, flags=fused), total)
        for i, total in enumerate(sums):
            builder.store(builder.load(total), builder.bitcast(out_at(word(i)), pack), align=FLOAT_BYTES)
        return context.get_dummy_value()

    return signature, generate


@njit(fastmath=True, cache=True)
def lay_weights(start, step, low, high, first, offset, weights):
    """Weights of linear interpolation at start + step * ray for the rays low..high, zero for the others of their blocks.

    Filled: first int64 [block]: index of a block's first neighbour; weights float32 [tap, ray]; offset float32 [ray] is scratch.
    Returns the number of taps used.
    """
    left, right = low // LANES, (high + LANES - 1) // LANES
    for block in range(left, right):
        begin, end = max(low, block * LANES), min(high, (block + 1) * LANES)
        first[block] = math.floor(min(start + step * begin, start + step * (end - 1)))
        for ray in range(block * LANES, (block + 1) * LANES):
            offset[ray] = start + step * ray - first[block] if begin <= ray < end else -2.0
    taps = int(abs(step) * (LANES - 1)) + 3
    for tap in range(taps):
        row, centre = weights[tap], np.float32(tap)
        for ray in range(left * LANES, right * LANES):
            row[ray] = max(np.float32(0), np.float32(1) - abs(offset[ray] - centre))
    return taps


def most_taps(steepest: float) -> int:
    """How many neighbouring voxels the rays of one block can draw on, for steps [voxels per ray] up to the steepest."""
    return int(abs(steepest) * (LANES - 1)) + 3
