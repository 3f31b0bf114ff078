"""How a network is planned and built for this host, as one value."""

from dataclasses import dataclass, field, replace

from polyfuse.choices import LONGEST, Groups
from polyfuse.codegen.build import Options
from polyfuse.codegen.compiler import find_compiler
from polyfuse.codegen.lower.program import LoweredProgram
from polyfuse.codegen.lower.selection import Interface
from polyfuse.codegen.target import Target, probe
from polyfuse.doors import public
from polyfuse.machines.host import Machine


@public
@dataclass(frozen=True)
class Settings:
    """How a network is planned and built.

    groups       `planned`, of at most `longest` layers each; those of the `published` plan of DNNFusion; or `single`
    exact        keep to sums of products as they are written: no Winograd
    interface    `nchw`, or `blocked` for inputs and outputs in blocks of channels
    untuned      whether what `polyfuse tune` found for a group on this host is left aside
    machine      whose time model says what pays; None for this user's, or a typical one
    """

    groups: Groups = "planned"
    longest: int = LONGEST
    exact: bool = False
    interface: Interface = "nchw"
    threads: int = 1
    untuned: bool = False
    machine: Machine | None = None
    options: Options = field(default_factory=Options)

    @property
    def ready(self) -> "Settings":
        """The same with a compiler. Errors: BuildError where there is none."""
        return replace(self, options=replace(self.options, compiler=self.options.compiler or find_compiler()))

    @property
    def target(self) -> Target:
        """What the compiler has with its flags. Errors: BuildError."""
        return probe(self.options.compiler or find_compiler(), tuple(self.options.flags))

    def threads_of(self, program: LoweredProgram) -> int:
        """The threads that run a program: one where none of its loops can be shared, and no more than it has tiles."""
        return program.threads_of(self.threads) if program.is_parallel else 1
