"""Tell which precisions this CPU has instructions for."""

from __future__ import annotations

__all__ = ["fast_precisions", "has_instructions"]

# Instruction sets, as torch names them, that make a precision faster than float32.
# The fastest precision comes first.
INSTRUCTIONS = {
    "int8": ("amx_int8", "avx512_vnni", "avx_vnni", "dotprod", "arm_dotprod", "i8mm"),
    "bfloat16": ("amx_bf16", "avx512_bf16", "bf16", "arm_bf16"),
}


def has_instructions(precision: str) -> bool | None:
    """Tell whether this CPU has instructions for a precision; None if torch cannot tell.

    Parameters
    ----------
    precision : {"float32", "bfloat16", "int8"}

    Examples
    --------
    >>> has_instructions("float32")
    True
    """
    import torch

    if precision == "float32":
        return True
    get_capabilities = getattr(torch.cpu, "get_capabilities", None)
    if get_capabilities is None:
        return None
    capabilities = get_capabilities()
    return any(capabilities.get(name) for name in INSTRUCTIONS[precision])


def fast_precisions() -> list[str]:
    """Return the reduced precisions that this CPU has instructions for, the fastest first."""
    return [precision for precision in INSTRUCTIONS if has_instructions(precision)]
