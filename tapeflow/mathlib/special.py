"""Special functions that SciPy computes: tapes call it for them."""

from tapeflow.primitives import Value, elementary


@elementary
def gamma(x: Value) -> Value:
    from scipy import special

    return special.gamma(x)


@elementary
def gammaln(x: Value) -> Value:
    from scipy import special

    return special.gammaln(x)


@elementary
def digamma(x: Value) -> Value:
    from scipy import special

    return special.digamma(x)


@elementary
def polygamma(n: Value, x: Value) -> Value:
    from scipy import special

    return special.polygamma(n, x)[()]


@elementary
def erfinv(x: Value) -> Value:
    from scipy import special

    return special.erfinv(x)


@elementary
def ndtri(x: Value) -> Value:
    from scipy import special

    return special.ndtri(x)


@elementary
def log_ndtr(x: Value) -> Value:
    from scipy import special

    return special.log_ndtr(x)


@elementary
def i0(x: Value) -> Value:
    from scipy import special

    return special.i0(x)


@elementary
def i0e(x: Value) -> Value:
    from scipy import special

    return special.i0e(x)


@elementary
def i1(x: Value) -> Value:
    from scipy import special

    return special.i1(x)


@elementary
def i1e(x: Value) -> Value:
    from scipy import special

    return special.i1e(x)


@elementary
def j0(x: Value) -> Value:
    from scipy import special

    return special.j0(x)


@elementary
def j1(x: Value) -> Value:
    from scipy import special

    return special.j1(x)


@elementary
def y0(x: Value) -> Value:
    from scipy import special

    return special.y0(x)


@elementary
def y1(x: Value) -> Value:
    from scipy import special

    return special.y1(x)
