# x86-64-v3, llvmlite 0.50.0
.LBB0_1:
        vmovupd (%rdx,%rdi,8), %ymm0
        vmovupd 32(%rdx,%rdi,8), %ymm1
        vmulpd  (%rsi,%rdi,8), %ymm0, %ymm0
        vmulpd  32(%rsi,%rdi,8), %ymm1, %ymm1
        vsubpd  32(%rcx,%rdi,8), %ymm1, %ymm1
        vsubpd  (%rcx,%rdi,8), %ymm0, %ymm0
        vmulpd  %ymm0, %ymm0, %ymm0
        vmulpd  %ymm1, %ymm1, %ymm1
        vmovupd %ymm1, 32(%rax,%rdi,8)
        vmovupd %ymm0, (%rax,%rdi,8)
        addq    $8, %rdi
        cmpq    %r8, %rdi
        jl      .LBB0_1
