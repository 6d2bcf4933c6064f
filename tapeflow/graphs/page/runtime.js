// What the rules' texts use besides JavaScript's own operators.
const F = new Float64Array(1), I = new BigInt64Array(F.buffer), U = new Uint32Array(F.buffer);
const bits = x => { F[0] = x; return I[0]; };
const fromBits = i => { I[0] = i; return F[0]; };
const shiftRight = (i, n) => BigInt.asIntN(64, BigInt.asUintN(64, i) >> n);
const mulHigh = (i, j) =>
  BigInt.asIntN(64, (BigInt.asUintN(64, i) * BigInt.asUintN(64, j)) >> 64n);
const toInt = x =>
  Math.abs(x) < 9223372036854775808 ? BigInt(Math.trunc(x)) : -9223372036854775808n;
const copysign = (x, y) => {
  const negative = y < 0 || Object.is(y, -0);
  return negative === (x < 0 || Object.is(x, -0)) ? x : -x;
};
const rint = x => {
  if (!(Math.abs(x) < 4503599627370496)) return x;
  const whole = (Math.abs(x) + 4503599627370496) - 4503599627370496;
  return copysign(whole, x);
};

// a * b + c, rounded once: Boldo and Melquiond, "Emulation of FMA and correctly rounded sums"
// (IEEE Trans. Comput. 57, 2008), where nothing can overflow or vanish, or else in integers.
const split = x => { const t = 134217729 * x, high = t - (t - x); return [high, x - high]; };
const fma = (a, b, c) => {
  const p = a * b;
  if (a === 0 || b === 0 || !Number.isFinite(a) || !Number.isFinite(b)) return p + c;
  if (!Number.isFinite(c)) return c;
  const m = Math.abs(p), large = 1e150;
  if (!(m > 1e-250 && m < large && Math.abs(a) < large && Math.abs(b) < large
        && Math.abs(c) < large && (c === 0 || Math.abs(c) > 1e-250))) return exactly(a, b, c);
  const [a1, a2] = split(a), [b1, b2] = split(b);
  const low = a2 * b2 - (((p - a1 * b1) - a2 * b1) - a1 * b2);
  const [t, tl] = twoSum(c, low), [v, vl] = twoSum(p, t);
  return v + toOdd(tl, vl);
};
const twoSum = (a, b) => { const s = a + b, z = s - a; return [s, (a - (s - z)) + (b - z)]; };
const toOdd = (a, b) => {
  const [s, e] = twoSum(a, b);
  F[0] = s;
  if (e === 0 || (U[0] & 1)) return s;
  I[0] += (e > 0) === (s > 0) ? 1n : -1n;
  return F[0];
};
const parts = x => {
  const i = bits(x), exponent = Number((i >> 52n) & 2047n), mantissa = i & 0xfffffffffffffn;
  const whole = exponent ? mantissa | 0x10000000000000n : mantissa;
  return [i < 0n ? -whole : whole, (exponent || 1) - 1075];
};
const scaled = (x, e) => {  // x * 2**e, x a whole number; exact wherever the result is a double
  while (e > 1000) { x *= 2 ** 1000; e -= 1000; }
  while (e < -1000) { x *= 2 ** -1000; e += 1000; }
  return x * 2 ** e;
};
const exactly = (a, b, c) => {
  const [am, ae] = parts(a), [bm, be] = parts(b), [cm, ce] = parts(c);
  const e = Math.min(ae + be, ce);
  const sum = ((am * bm) << BigInt(ae + be - e)) + (cm << BigInt(ce - e));
  if (sum === 0n) return 0;
  const size = sum < 0n ? -sum : sum, drop = Math.max(size.toString(2).length - 53, -1074 - e);
  const sign = sum < 0n ? -1 : 1;
  if (drop <= 0) return sign * scaled(Number(size), e);
  const n = BigInt(drop), half = 1n << (n - 1n), rest = size & ((1n << n) - 1n);
  let kept = size >> n;
  if (rest > half || (rest === half && (kept & 1n))) kept += 1n;
  return sign * scaled(Number(kept), e + drop);
};
