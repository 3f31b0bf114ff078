"""The benchmark of row kernels counts right and runs."""

from dataclasses import replace

import numpy as np
from click.testing import CliRunner

from polyfuse.bench.rows import main, operations, shapes
from polyfuse.codegen.kernel import aligned_copy
from polyfuse.codegen.rows.direct import Direct
from polyfuse.codegen.rows.shape import RowShape
from polyfuse.codegen.rows.windows import Depthwise


def test_operations_of_a_row_by_hand() -> None:
    """5 columns, the outer two of which lack a tap: 13 taps, 3 rows, 2 channels in and 4 out."""
    shape = RowShape("conv", Direct(), 2, 4, 5, kernel=(3, 3), outside=(1, 1))
    assert operations(shape) == 2 * 13 * 3 * 2 * 4
    assert operations(replace(shape, kind=Depthwise(), out_channels=2)) == 2 * 13 * 3 * 2


def test_arrays_start_at_a_cache_line() -> None:
    given = np.arange(5, dtype=np.float32)
    values = aligned_copy(given)
    assert values.ctypes.data % 64 == 0 and values.tolist() == given.tolist()


def test_names_of_the_shapes_are_distinct() -> None:
    assert len({shape.name for shape in shapes()}) == len(shapes())


def test_shares_are_printed() -> None:
    result = CliRunner().invoke(main, ["--repeats", "1", "--only", "dw3x3_32"])
    assert result.exit_code == 0, result.output
    assert "dw3x3_32" in result.output and "%" in result.output
