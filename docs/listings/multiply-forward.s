# x86-64-v3, llvmlite 0.50.0
.LBB0_1:
        vmovupd (%rdx,%rsi,8), %ymm0
        vmovupd 32(%rdx,%rsi,8), %ymm1
        vmulpd  (%rcx,%rsi,8), %ymm0, %ymm0
        vmulpd  32(%rcx,%rsi,8), %ymm1, %ymm1
        vmovupd %ymm1, 32(%rax,%rsi,8)
        vmovupd %ymm0, (%rax,%rsi,8)
        addq    $8, %rsi
        cmpq    %r8, %rsi
        jl      .LBB0_1
