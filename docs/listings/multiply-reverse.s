# x86-64-v3, llvmlite 0.50.0
.LBB0_1:
        vmovupd (%rdx,%rsi,8), %ymm2
        vmovupd 32(%rdx,%rsi,8), %ymm3
        vmovupd (%rdi,%rsi,8), %ymm4
        vmovupd 32(%rdi,%rsi,8), %ymm5
        vcmpeqpd        %ymm0, %ymm4, %ymm6
        vcmpeqpd        %ymm0, %ymm5, %ymm7
        vcmpeqpd        %ymm0, %ymm2, %ymm8
        vcmpeqpd        %ymm0, %ymm3, %ymm9
        vorpd   %ymm6, %ymm8, %ymm8
        vfmadd213pd     (%r9,%rsi,8), %ymm4, %ymm2
        vxorpd  %ymm1, %ymm8, %ymm8
        vmaskmovpd      %ymm2, %ymm8, (%r9,%rsi,8)
        vorpd   %ymm7, %ymm9, %ymm2
        vfmadd213pd     32(%r9,%rsi,8), %ymm5, %ymm3
        vxorpd  %ymm1, %ymm2, %ymm2
        vmaskmovpd      %ymm3, %ymm2, 32(%r9,%rsi,8)
        vmovupd (%rax,%rsi,8), %ymm2
        vmovupd 32(%rax,%rsi,8), %ymm3
        vcmpeqpd        %ymm0, %ymm2, %ymm8
        vcmpeqpd        %ymm0, %ymm3, %ymm9
        vorpd   %ymm6, %ymm8, %ymm6
        vfmadd213pd     (%rcx,%rsi,8), %ymm4, %ymm2
        vxorpd  %ymm1, %ymm6, %ymm4
        vmaskmovpd      %ymm2, %ymm4, (%rcx,%rsi,8)
        vorpd   %ymm7, %ymm9, %ymm2
        vfmadd213pd     32(%rcx,%rsi,8), %ymm5, %ymm3
        vxorpd  %ymm1, %ymm2, %ymm2
        vmaskmovpd      %ymm3, %ymm2, 32(%rcx,%rsi,8)
        addq    $8, %rsi
        cmpq    %r8, %rsi
        jl      .LBB0_1
