; llvmlite 0.50.0
define void @forward_mul_lanes_0_0_0_0(ptr noalias %.1, ptr noalias %.2, ptr noalias %.3, ptr noalias %.4, i64 %.5)
{
entry:
  %.7 = getelementptr i32, ptr %.4, i64 0
  %.8 = load i32, ptr %.7, align 4
  %.9 = zext i32 %.8 to i64
  %.10 = mul i64 %.9, %.5
  %.11 = getelementptr double, ptr %.1, i64 %.10
  %.12 = getelementptr i32, ptr %.4, i64 1
  %.13 = load i32, ptr %.12, align 4
  %.14 = zext i32 %.13 to i64
  %.15 = mul i64 %.14, %.5
  %.16 = getelementptr double, ptr %.1, i64 %.15
  %.17 = getelementptr i32, ptr %.4, i64 2
  %.18 = load i32, ptr %.17, align 4
  %.19 = zext i32 %.18 to i64
  %.20 = mul i64 %.19, %.5
  %.21 = getelementptr double, ptr %.1, i64 %.20
  br label %loop
loop:
  %.23 = phi  i64 [0, %entry], [%.31, %loop]
  %.24 = getelementptr double, ptr %.16, i64 %.23
  %.25 = load <8 x double>, ptr %.24, align 8
  %.26 = getelementptr double, ptr %.21, i64 %.23
  %.27 = load <8 x double>, ptr %.26, align 8
  %.28 = fmul <8 x double> %.25, %.27
  %.29 = getelementptr double, ptr %.11, i64 %.23
  store <8 x double> %.28, ptr %.29, align 8
  %.31 = add i64 %.23, 8
  %.32 = icmp slt i64 %.31, %.5
  br i1 %.32, label %loop, label %end
end:
  ret void
}
