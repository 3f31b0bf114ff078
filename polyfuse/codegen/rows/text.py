"""The prelude of a vector width, and the signature of every row kernel."""

LINE = 16
"""Floats of a cache line: what is prefetched at once."""
PARAMETERS = (
    "const float *const *in",
    "const float *weights",
    "const float *bias",
    "const float *const *residual",
    "float *const *out",
    "ptrdiff_t from",
    "ptrdiff_t to",
    "const float *next_in",
    "float *next_out",
    "float *workspace",
)
"""The parameters of every row kernel, in their order; see kernel.py for what they point at."""

NAMES = tuple(parameter.split()[-1].lstrip("*") for parameter in PARAMETERS)

_COMMON = """\
#include <math.h>
#include <stddef.h>
#ifndef POLYFUSE_ROWS
#define POLYFUSE_ROWS
#define ROW_PART static __attribute__((noinline, unused))
#define ROW_HELPER static inline __attribute__((unused))
/* What was streamed is written before what comes next. */
#if defined(__x86_64__)
#define STREAMED() __asm__ volatile("sfence" : : : "memory")
#else
#define STREAMED() ((void)0)
#endif
/* They keep NaN. */
ROW_HELPER float minimum_of(float a, float b) { return a < b || a != a ? a : b; }
ROW_HELPER float maximum_of(float a, float b) { return a > b || a != a ? a : b; }
ROW_HELPER int smaller_of(int a, int b) { return a < b ? a : b; }
ROW_HELPER int within(int most, int n) { return n < 0 ? 0 : n < most ? n : most; }
#endif
"""

_WIDTH = """\
#ifndef POLYFUSE_ROWS_@V
#define POLYFUSE_ROWS_@V
typedef float vec@V __attribute__((vector_size(@B)));
typedef float vec@V_at __attribute__((vector_size(@B), aligned(4), may_alias));
typedef int mask@V __attribute__((vector_size(@B)));
/* A value that is used several times stays in a register: gcc would load it again for each use. Where no register holds
   a vector, the compiler takes it apart and does as it likes. */
#if @K
#define KEEP@V(x) __asm__("" : "+v"(x))
#elif @N
#define KEEP@V(x) __asm__("" : "+w"(x))
#else
#define KEEP@V(x) ((void)0)
#endif
#define GET@V(p, i) (*(const vec@V_at *)((p) + (i)))
#define PUT@V(p, i, value) (*(vec@V_at *)((p) + (i)) = (value))
#if @A
#define STREAM@V(p, i, value) __asm__("vmovntps %1, %0" : "=m"(*(vec@V_at *)((p) + (i))) : "v"(value))
#else
#define STREAM@V(p, i, value) PUT@V(p, i, value)
#endif
#define SPLAT@V(x) ((vec@V){@S})
#define SELECT@V(m, a, b) ((vec@V)(((m) & (mask@V)(a)) | (~(m) & (mask@V)(b))))
/* t = bound > t ? bound : t, so NaN stays; vmaxps does just that, but gcc compares and blends. */
#if @A && !defined(__clang__)
#define AT_LEAST@V(t, bound) __asm__("vmaxps %0, %1, %0" : "+v"(t) : "v"(bound))
#define AT_MOST@V(t, bound) __asm__("vminps %0, %1, %0" : "+v"(t) : "v"(bound))
#else
#define AT_LEAST@V(t, bound) ((t) = SELECT@V((bound) > (t), bound, t))
#define AT_MOST@V(t, bound) ((t) = SELECT@V((bound) < (t), bound, t))
#endif
/* t = sqrt(t); gcc calls the C library for what is negative. */
#if @A && !defined(__clang__)
#define SQRT@V(t) __asm__("vsqrtps %0, %0" : "+v"(t))
#else
#define SQRT@V(t) do { for (int sqrt_k = 0; sqrt_k < @V; sqrt_k++) (t)[sqrt_k] = sqrtf((t)[sqrt_k]); } while (0)
#endif
@E#if defined(__clang__) || __GNUC__ >= 12
#define SHUFFLE@V(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define SHUFFLE@V(a, b, ...) __builtin_shuffle(a, b, (mask@V){__VA_ARGS__})
#endif
/* Neighbouring floats, again and again; gcc loads four as one number, but shuffles them through memory. */
@W#endif
"""

_EXP = """\
/* exp(t) = 2^k exp(r) with |r| <= log(2)/2: n is k with low bits that say k as an integer, p is h exp(r) by the nearest
   polynomial of degree 6, which misses by 2e-9. */
#define EXP_PARTS@V(t, h, n, k, p) \\
    const vec@V n = t * 1.44269504088896341f + 12582912.0f, k = n - 12582912.0f; \\
    const vec@V exp_r = t - k * 0.693359375f + k * 2.12194440e-4f; \\
    vec@V p = (h) * 1.38367942e-3f * exp_r + (h) * 8.37485705e-3f; \\
    p = p * exp_r + (h) * 4.16682287e-2f; \\
    p = p * exp_r + (h) * 1.66664197e-1f; \\
    p = p * exp_r + (h) * 4.99999921e-1f; \\
    p = p * exp_r + (h); \\
    p = p * exp_r + (h)
/* t = exp(t). What is denormal or too large comes out rounded, as 0 or as infinity: where no instruction scales so, two
   factors make 2^k. NaN stays. */
#if @X && !defined(__clang__)
#define SCALED@V(p, n, k) __asm__("vscalefps %1, %0, %0" : "+v"(p) : "v"(k))
#else
#define SCALED@V(p, n, k) do { \\
    const mask@V exp_i = (mask@V)(n) - 0x4b400000, exp_half = exp_i >> 1; \\
    (p) = (p) * (vec@V)((exp_half + 127) << 23) * (vec@V)((exp_i - exp_half + 127) << 23); \\
  } while (0)
#endif
#define EXP@V(t) do { \\
    AT_LEAST@V(t, SPLAT@V(-104.0f)); \\
    AT_MOST@V(t, SPLAT@V(89.0f)); \\
    EXP_PARTS@V(t, 1.0f, exp_n, exp_k, exp_p); \\
    SCALED@V(exp_p, exp_n, exp_k); \\
    t = exp_p; \\
  } while (0)
/* t = 1 + exp(t), infinity from t = 88 on: the shifted bits of n are 2^(k + 1). NaN may become infinity. */
#if @R && !defined(__clang__)
#define WITHIN@V(t, bound) __asm__("vrangeps $2, %1, %0, %0" : "+v"(t) : "v"(bound))
#else
#define WITHIN@V(t, bound) do { AT_LEAST@V(t, -(bound)); AT_MOST@V(t, bound); } while (0)
#endif
#define ONE_AND_EXP@V(t) do { \\
    WITHIN@V(t, SPLAT@V(88.0f)); \\
    EXP_PARTS@V(t, 0.5f, exp_n, exp_k, exp_p); \\
    t = exp_p * (vec@V)(((mask@V)exp_n << 23) + 0x40000000) + 1.0f; \\
  } while (0)
"""
_SPREAD = """\
typedef float part@V_@N __attribute__((vector_size(@M), aligned(4), may_alias));
#define SPREAD@V_@N(p) __builtin_shufflevector(*(const part@V_@N *)(p), *(const part@V_@N *)(p), @I)
"""
_SPREAD_FOUR = """\
#if defined(__SIZEOF_INT128__) && !defined(__clang__)
typedef __int128 four@V_at __attribute__((aligned(4), may_alias));
typedef __int128 fours@V __attribute__((vector_size(@B)));
#define SPREAD@V_4(p) ((vec@V)(fours@V){@Q})
#else
@F#endif
"""
_SPREAD_PAIR = """\
typedef double pair@V_at __attribute__((aligned(4), may_alias));
typedef double pairs@V __attribute__((vector_size(@B)));
#define SPREAD@V_2(p) ((vec@V)(pairs@V){@P})
"""

_HAS_ASSEMBLY = {4: "defined(__AVX__)", 8: "defined(__AVX__)", 16: "defined(__AVX512F__)"}
_HAS_REGISTERS = {4: "defined(__SSE__)", 8: "defined(__AVX__)", 16: "defined(__AVX512F__)"}
_HAS_NEON = {4: "defined(__aarch64__)", 8: "0", 16: "0"}


def prelude(floats: int) -> str:
    """What a C file with row kernels of this width starts with; several widths may share a file."""
    spreads = [_SPREAD_PAIR]
    for ways in (n for n in (4, 8) if n < floats):
        places = ", ".join(str(lane % ways) for lane in range(floats))
        shuffled = _SPREAD.replace("@N", str(ways)).replace("@M", str(4 * ways)).replace("@I", places)
        fours = ", ".join(["*(const four@V_at *)(p)"] * (floats // 4))
        spreads.append(_SPREAD_FOUR.replace("@F", shuffled).replace("@Q", fours) if ways == 4 else shuffled)
    spreads.append(f"#define SPREAD@V_{floats}(p) GET@V(p, 0)\n")
    names = {"@E": _EXP, "@W": "".join(spreads), "@P": ", ".join(["*(const pair@V_at *)(p)"] * (floats // 2))}
    names |= {"@V": str(floats), "@B": str(4 * floats), "@S": ", ".join(["(x)"] * floats), "@A": _HAS_ASSEMBLY[floats]}
    names |= {"@K": _HAS_REGISTERS[floats], "@N": _HAS_NEON[floats]}
    names["@X"] = "defined(__AVX512F__)" if floats == 16 else "defined(__AVX512VL__)"
    names["@R"] = "defined(__AVX512DQ__)" if floats == 16 else "defined(__AVX512DQ__) && defined(__AVX512VL__)"
    text = _WIDTH
    for mark, value in names.items():
        text = text.replace(mark, value)
    return _COMMON + text
