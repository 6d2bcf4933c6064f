"""The kernel compiler: straight-line arithmetic to SIMD machine code, through llvmlite."""
