"""The C that a probe runs: independent multiply-add chains, streams over memory, a chase of indices.

Enters: a vector width. Leaves: C text for gcc and clang, written with vector extensions only, and the functions of it
as Python calls.

An empty `__asm__` that clobbers memory keeps the compiler from merging passes or calling memcpy and memset.
"""

import ctypes
from collections.abc import Callable
from string import Template
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from polyfuse.codegen.build import Built, load

Stream = Literal["read", "write", "copy"]
STREAMS: tuple[Stream, ...] = ("read", "write", "copy")
CHAINS = (8, 12, 16, 24)
"""Numbers of independent chains: few enough for 16 registers, many enough for four units of four cycles each."""

UNROLL = 8
ADDS = 16
STOP = -(1 << 40)
PAGE_BYTES = 4096

HEAD = """\
#define _POSIX_C_SOURCE 200809L
#include <sched.h>
#include <time.h>
typedef float floats __attribute__((vector_size(${BYTES})));
typedef int ints __attribute__((vector_size(${BYTES})));

/* A new value in every step, one cycle each: steps per second are the clock. */
long long polyfuse_adds(long long rounds, long long step)
{
  long long x = 0;
  for (long long r = 0; r < rounds; r++) {
${ADD_STEPS}
  }
  return x;
}

/* next[] is one cycle through all lines: each load waits for the one before. */
long long polyfuse_chase(const long long *next, long long at, long long steps)
{
  for (long long s = 0; s < steps; s++)
    at = next[at];
  return at;
}
"""

FMA = """
float polyfuse_fma_${CHAINS}(long long rounds, float scale)
{
  const floats x = (floats){0} + scale, y = x;
  floats ${STARTS};
  for (long long r = 0; r < rounds; r++) {
${STEPS}
  }
  floats sum = ${SUM};
  return sum[0];
}
"""

MEMORY = """
#define KEEP __asm__ volatile("" ::: "memory")

int polyfuse_read(ints *to, const ints *from, long long count, long long passes)
{
  (void)to;
  ints ${ZEROS};
  for (long long p = 0; p < passes; p++) {
    for (long long i = 0; i < count; i += ${UNROLL}) {
${READS}
    }
    KEEP;
  }
  ints sum = ${SUM};
  return sum[0];
}

int polyfuse_write(ints *to, const ints *from, long long count, long long passes)
{
  (void)from;
  const ints value = (ints){0} + (int)count;
  for (long long p = 0; p < passes; p++)
    for (long long i = 0; i < count; i += ${UNROLL}) {
${WRITES}
      KEEP;
    }
  return 0;
}

int polyfuse_copy(ints *to, const ints *from, long long count, long long passes)
{
  for (long long p = 0; p < passes; p++)
    for (long long i = 0; i < count; i += ${UNROLL}) {
${COPIES}
      KEEP;
    }
  return 0;
}

static double seconds_now(void)
{
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

/* One thread of several that begin each sample together; a sample goes over one of the pieces, the next over the next.
   times[] holds begin and end of each sample. Threads that wait give their core away. A negative *arrived ends it,
   as whoever sees that time is up makes it: returns 1. */
int polyfuse_together(int (*stream)(ints *, const ints *, long long, long long), ints *to, const ints *from,
                      long long count, long long passes, long long pieces, long long samples, long long threads,
                      long long *arrived, double *times, double seconds)
{
  volatile int sink;
  const double deadline = seconds_now() + seconds;
  for (long long s = 0; s < samples; s++) {
    if (__atomic_load_n(arrived, __ATOMIC_ACQUIRE) < 0)
      return 1;
    __atomic_fetch_add(arrived, 1, __ATOMIC_ACQ_REL);
    for (;;) {
      long long there = __atomic_load_n(arrived, __ATOMIC_ACQUIRE);
      if (there < 0)
        return 1;
      if (there >= (s + 1) * threads)
        break;
      sched_yield();
    }
    long long offset = s % pieces * (count / pieces);
    times[2 * s] = seconds_now();
    sink = stream(to + offset, from + offset, count / pieces, passes);
    times[2 * s + 1] = seconds_now();
    if (times[2 * s + 1] > deadline)
      __atomic_store_n(arrived, ${STOP}LL, __ATOMIC_RELEASE);
  }
  (void)sink;
  return 0;
}
"""


def probe_source(vector_bytes: int) -> str:
    """The C of a probe for vectors of this width."""
    steps = "\n".join(['    x += step; __asm__ volatile("" : "+r"(x));'] * ADDS)
    parts = [Template(HEAD).substitute(BYTES=str(vector_bytes), ADD_STEPS=steps)]
    for chains in CHAINS:
        names = range(chains)
        parts.append(
            Template(FMA).substitute(
                CHAINS=str(chains),
                STARTS=", ".join(f"a{i} = x + {i}.0f" for i in names),
                STEPS="\n".join(f"    a{i} = a{i} * x + y;" for i in names),
                SUM=" + ".join(f"a{i}" for i in names),
            )
        )
    lanes = range(UNROLL)
    parts.append(
        Template(MEMORY).substitute(
            ZEROS=", ".join(f"a{i} = {{0}}" for i in lanes),
            READS="\n".join(f"      a{i} ^= from[i + {i}];" for i in lanes),
            SUM=" ^ ".join(f"a{i}" for i in lanes),
            WRITES="\n".join(f"      to[i + {i}] = value;" for i in lanes),
            COPIES="\n".join(f"      to[i + {i}] = from[i + {i}];" for i in lanes),
            UNROLL=str(UNROLL),
            STOP=str(STOP),
        )
    )
    return "".join(parts)


class ProbeLibrary:
    """The compiled functions of one width."""

    def __init__(self, vector_bytes: int, built: Built) -> None:
        self.vector_bytes = vector_bytes
        self._library = load(built)
        integer, pointer = ctypes.c_longlong, ctypes.c_void_p
        for chains in CHAINS:
            self._declare(f"fma_{chains}", ctypes.c_float, integer, ctypes.c_float)
        self._declare("adds", integer, integer, integer)
        self._declare("chase", integer, pointer, integer, integer)
        streaming = (pointer, pointer, integer, integer)
        for stream in STREAMS:
            self._declare(stream, ctypes.c_int, *streaming)
        more = (*(integer,) * 3, pointer, pointer, ctypes.c_double)
        self._declare("together", ctypes.c_int, pointer, *streaming, *more)

    def flops(self, chains: int, rounds: int) -> tuple[Callable[[], None], int]:
        """A call of so many chains, and the operations it makes; all its values tend to 1."""
        function = self._function(f"fma_{chains}")
        return lambda: function(rounds, 0.5), rounds * chains * 2 * self.vector_bytes // 4

    def adds(self, rounds: int) -> tuple[Callable[[], None], int]:
        """A call of additions that wait for each other, and how many they are."""
        function = self._function("adds")
        return lambda: function(rounds, 3), rounds * ADDS

    def stream(self, name: Stream, memory: "ProbeMemory", passes: int) -> tuple[Callable[[], None], int]:
        """A call that goes over the memory so many times, and the bytes that it moves."""
        function = self._function(name)
        places = self._places(name, memory)
        return lambda: function(*places, passes), memory.size * passes

    def chase(self, following: NDArray[np.int64], start: int, steps: int) -> Callable[[], None]:
        """A call that follows so many indices."""
        function, address = self._function("chase"), following.ctypes.data
        return lambda: function(address, start, steps)

    def stream_together(
        self, name: Stream, memory: "ProbeMemory", passes: int, threads: int, arrived: NDArray[np.int64], seconds: float
    ) -> Callable[[NDArray[np.float64]], bool]:
        """A call for one of several threads, given where to put times: whether it took all samples.

        Each sample goes over one piece of the memory so many times. After `seconds` no other begins.
        """
        function, stream = self._function("together"), ctypes.cast(self._function(name), ctypes.c_void_p)
        how = (stream, *self._places(name, memory), passes, memory.pieces)
        return lambda times: function(*how, len(times), threads, arrived.ctypes.data, times.ctypes.data, seconds) == 0

    def _declare(self, name: str, result: type, *arguments: type) -> None:
        function = self._function(name)
        function.restype, function.argtypes = result, arguments

    def _function(self, name: str) -> Any:
        return getattr(self._library, f"polyfuse_{name}")

    def _places(self, name: Stream, memory: "ProbeMemory") -> tuple[int, int, int]:
        """To, from, and how many vectors; a copy goes from one half to the other."""
        if name == "copy":
            return memory.address + memory.size // 2, memory.address, memory.size // 2 // self.vector_bytes
        return memory.address, memory.address, memory.size // self.vector_bytes


class ProbeMemory:
    """Memory that begins at a page, touched; so many pieces of whole pages."""

    def __init__(self, least_bytes: int, pieces: int = 1) -> None:
        self.pieces = pieces
        self.size = -(-least_bytes // (pieces * PAGE_BYTES)) * pieces * PAGE_BYTES
        self._array = np.ones(self.size + PAGE_BYTES, np.uint8)
        self.address = -(-self._array.ctypes.data // PAGE_BYTES) * PAGE_BYTES
