"""Long sums in blocks, as C: see lower/sums.py for what their steps do."""

from polyfuse.codegen.lower.sums import RADIX, LongSum, Role

_HELPERS = f"""\
/* Sums in blocks: sums[0] is that of the block under way, then those of blocks, of {RADIX} blocks, and so on. */
HELPER void clear_sums(@F *sums, int apart, int levels) {{
  for (int k = 0; k <= levels; k++) sums[k * apart] = 0.0f;
}}
HELPER void add_block(@F *sums, int apart, int block) {{
  @F sum = sums[0];
  sums[0] = 0.0f, sums += apart, sums[0] += sum;
  for (block++; block % {RADIX} == 0; block /= {RADIX}) {{
    sum = sums[0];
    sums[0] = 0.0f, sums += apart, sums[0] += sum;
  }}
}}
HELPER @F sum_of(const @F *sums, int apart, int levels) {{
  @F sum = sums[0];
  for (int k = 1; k <= levels; k++) sum += sums[k * apart];
  return sum;
}}
"""


def helpers(real: str) -> str:
    """The functions that sums in blocks call, for values of a C type."""
    return _HELPERS.replace("@F", real)


def printed(role: Role, sum_: LongSum, sums: str, target: str, block: str) -> str:
    """The C of an execution of a step that `in_blocks` added; `sums` points at the sums of its point."""
    where = f"{sums}, {sum_.width}"
    if role == "clear":
        return f"clear_sums({where}, {sum_.levels});"
    if role == "fold":
        return f"add_block({where}, {block});"
    return f"{target} = {target} + sum_of({where}, {sum_.levels});"
