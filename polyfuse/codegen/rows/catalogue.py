"""The kinds of row kernels that work on vectors, in the order in which they are offered a layer: a line each."""

from polyfuse.codegen.rows.convert import ToBlocked, ToPlanar
from polyfuse.codegen.rows.direct import Direct
from polyfuse.codegen.rows.elementwise import Add, Apply, Mul
from polyfuse.codegen.rows.few_channels import FewChannels
from polyfuse.codegen.rows.gather import GatherRows
from polyfuse.codegen.rows.grouped import Grouped
from polyfuse.codegen.rows.lrn import Normalised
from polyfuse.codegen.rows.shape import Kind
from polyfuse.codegen.rows.stencil import Stencil
from polyfuse.codegen.rows.windows import AveragePool, Depthwise, MaxPool
from polyfuse.codegen.rows.winograd import Winograd

VECTOR_KINDS: tuple[Kind, ...] = (
    Stencil(),
    FewChannels(),
    Depthwise(),
    Direct(),
    Winograd(),
    Grouped(),
    MaxPool(),
    AveragePool(),
    Add(),
    Mul(),
    Normalised(),
    Apply(),
    GatherRows(),
    ToBlocked(),
    ToPlanar(),
)
