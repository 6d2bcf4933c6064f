/* Ops on whole arrays, for exported C: see c_arrays.py. Each function stands after those it calls.
 * r: the result. a, b: operands. Other parameters are those of the op, and m, other: room.
 */

static double tape_sum_line(const double *a, size_t stride, size_t n)
{
    double stack[64], total = -0.0;
    size_t blocks = 0, block, level, k;
    for (block = 0; 128 * block < n; block++) {
        const double *own = a + 128 * block * stride;
        const size_t count = n - 128 * block < 128 ? n - 128 * block : 128;
        double parts[8], part;
        size_t position = block;
        for (k = 0; k < 8; k++) parts[k] = -0.0;
        for (k = 0; k < count; k++) parts[k % 8] += own[k * stride];
        part = ((parts[0] + parts[1]) + (parts[2] + parts[3]))
            + ((parts[4] + parts[5]) + (parts[6] + parts[7]));
        for (level = 0; position & 1; level++, position >>= 1) part = stack[level] + part;
        stack[level] = part;
        blocks++;
    }
    for (level = 0; blocks >> level; level++)
        if (blocks >> level & 1) total = stack[level] + total;
    return total + 0.0;
}

static void tape_sum(double *r, const double *a, size_t outer, size_t n, size_t inner)
{
    size_t i, j;
    for (i = 0; i < outer; i++)
        for (j = 0; j < inner; j++)
            r[i * inner + j] = tape_sum_line(a + i * n * inner + j, inner, n);
}

static void tape_extreme(double *r, const double *a, size_t outer, size_t n, size_t inner,
                         double sign, int place)
{
    size_t i, j, k;
    for (i = 0; i < outer; i++)
        for (j = 0; j < inner; j++) {
            const double *own = a + i * n * inner + j;
            size_t best = 0;
            for (k = 1; k < n; k++) {
                const double x = own[k * inner], y = own[best * inner];
                if (y == y && (x != x || sign * x > sign * y)) best = k;
            }
            r[i * inner + j] = place ? (double)best : own[best * inner];
        }
}

static void tape_cumsum(double *r, const double *a, size_t outer, size_t n, size_t inner,
                        int reversed)
{
    size_t i, j, k;
    for (i = 0; i < outer; i++)
        for (j = 0; j < inner; j++) {
            double total = 0.0;
            for (k = 0; k < n; k++) {
                const size_t at = (i * n + (reversed ? n - 1 - k : k)) * inner + j;
                total = k ? total + a[at] : a[at];
                r[at] = total;
            }
        }
}

static int tape_before(double x, double y) { return x < y || (y != y && x == x); }

static void tape_argsort(double *r, const double *a, size_t outer, size_t n, size_t inner,
                         double *other)
{
    size_t i, j, k, width, first;
    for (i = 0; i < outer; i++)
        for (j = 0; j < inner; j++) {
            const double *own = a + i * n * inner + j;
            double *places = r + i * n * inner + j;
            for (k = 0; k < n; k++) places[k * inner] = (double)k;
            for (width = 1; width < n; width *= 2) {
                for (first = 0; first < n; first += 2 * width) {
                    const size_t middle = first + width < n ? first + width : n;
                    const size_t last = first + 2 * width < n ? first + 2 * width : n;
                    size_t left = first, right = middle;
                    for (k = first; k < last; k++) {
                        const int take_right = right < last && (left == middle
                            || tape_before(own[(size_t)places[right * inner] * inner],
                                           own[(size_t)places[left * inner] * inner]));
                        other[k] = places[(take_right ? right++ : left++) * inner];
                    }
                }
                for (k = 0; k < n; k++) places[k * inner] = other[k];
            }
        }
}

static void tape_searchsorted(double *r, const double *a, size_t n, const double *x, size_t count,
                              int right)
{
    size_t k;
    for (k = 0; k < count; k++) {
        size_t low = 0, high = n;
        while (low < high) {
            const size_t middle = low + (high - low) / 2;
            const int goes_on = right ? !tape_before(x[k], a[middle])
                                      : tape_before(a[middle], x[k]);
            if (goes_on) low = middle + 1; else high = middle;
        }
        r[k] = (double)low;
    }
}

static size_t tape_place(double index, size_t n)
{
    const double size = (double)n;
    const double whole = index >= -size - 1.0 && index <= size ? trunc(index) : size;
    const double place = whole < 0.0 ? whole + size : whole;
    return place >= 0.0 && place < size ? (size_t)place : n;
}

static void tape_take_at(double *r, const double *a, const double *index, size_t rows, size_t n,
                         size_t count)
{
    size_t i, k;
    for (i = 0; i < rows; i++)
        for (k = 0; k < count; k++) {
            const size_t place = tape_place(index[i * count + k], n);
            r[i * count + k] = place < n ? a[i * n + place] : NAN;
        }
}

static void tape_put_at(double *r, const double *a, const double *index, size_t rows, size_t n,
                        size_t count)
{
    size_t i, k;
    for (i = 0; i < rows * n; i++) r[i] = 0.0;
    for (i = 0; i < rows; i++)
        for (k = 0; k < count; k++) {
            const size_t place = tape_place(index[i * count + k], n);
            if (place < n) r[i * n + place] += a[i * count + k];
        }
}

static void tape_matmul(double *r, const double *a, const double *b, size_t batch, size_t m,
                        size_t k, size_t n, int a_turned, int b_turned, int a_single, int b_single)
{
    size_t s, i, j, h;
    for (s = 0; s < batch; s++) {
        const double *left = a_single ? a : a + s * m * k, *right = b_single ? b : b + s * k * n;
        for (i = 0; i < m; i++)
            for (j = 0; j < n; j++) {
                double total = 0.0;
                for (h = 0; h < k; h++)
                    total += left[a_turned ? h * m + i : i * k + h]
                        * right[b_turned ? j * k + h : h * n + j];
                r[(s * m + i) * n + j] = total;
            }
    }
}

static void tape_azmatmul(double *r, const double *a, const double *b, size_t batch, size_t m,
                          size_t k, size_t n, int a_turned, int b_turned, int a_single,
                          int b_single)
{
    size_t s, i, j, h;
    for (s = 0; s < batch; s++) {
        const double *left = a_single ? a : a + s * m * k, *right = b_single ? b : b + s * k * n;
        for (i = 0; i < m; i++)
            for (j = 0; j < n; j++) {
                double total = 0.0;
                for (h = 0; h < k; h++) {
                    const double x = left[a_turned ? h * m + i : i * k + h];
                    const double y = right[b_turned ? j * k + h : h * n + j];
                    if (x != 0.0 && y != 0.0) total += x * y;
                }
                r[(s * m + i) * n + j] = total;
            }
    }
}

static void tape_clear_columns(double *r, const double *b, size_t batch, size_t n, size_t columns)
{
    size_t s, c, i;
    for (s = 0; s < batch; s++, b += n * columns, r += n * columns)
        for (c = 0; c < columns; c++) {
            int given = 0;
            for (i = 0; i < n; i++) given |= b[columns * i + c] != 0.0;
            for (i = 0; i < n && !given; i++) r[columns * i + c] = 0.0;
        }
}

static void tape_cholesky(double *r, const double *a, size_t batch, size_t n)
{
    size_t s, i, j, k;
    for (s = 0; s < batch; s++, a += n * n, r += n * n)
        for (i = 0; i < n; i++)
            for (j = 0; j < n; j++) {
                double entry = 0.5 * (a[n * j + i] + a[n * i + j]);
                for (k = 0; k < j; k++) entry -= r[n * i + k] * r[n * j + k];
                if (j > i) r[n * i + j] = 0.0;
                else if (j < i) r[n * i + j] = entry / r[n * j + j];
                else r[n * i + j] = entry > 0.0 ? sqrt(entry) : NAN;
            }
}

static void tape_triangular_solve(double *r, const double *a, const double *b, size_t batch,
                                  size_t n, size_t columns, int lower, int turned)
{
    const int downwards = lower != turned;
    size_t s, c, place, other;
    for (s = 0; s < batch; s++, a += n * n, b += n * columns, r += n * columns)
        for (c = 0; c < columns; c++)
            for (place = 0; place < n; place++) {
                const size_t i = downwards ? place : n - 1 - place;
                double entry = b[columns * i + c];
                for (other = 0; other < place; other++) {
                    const size_t k = downwards ? other : n - 1 - other;
                    entry -= a[turned ? n * k + i : n * i + k] * r[columns * k + c];
                }
                r[columns * i + c] = entry / a[n * i + i];
            }
}

static double tape_eliminate(double *m, double *order, const double *a, size_t n, int turned)
{
    double sign = 1.0;
    size_t i, j, k;
    for (i = 0; i < n; i++)
        for (j = 0; j < n; j++) m[n * i + j] = a[turned ? n * j + i : n * i + j];
    for (k = 0; k < n; k++) {
        size_t best = k;
        for (i = k + 1; i < n; i++) if (fabs(m[n * i + k]) > fabs(m[n * best + k])) best = i;
        order[k] = (double)best;
        if (best != k) {
            sign = -sign;
            for (j = 0; j < n; j++) {
                const double upper = m[n * k + j];
                m[n * k + j] = m[n * best + j];
                m[n * best + j] = upper;
            }
        }
        if (m[n * k + k] == 0.0) continue;
        for (i = k + 1; i < n; i++) {
            const double factor = m[n * i + k] / m[n * k + k];
            m[n * i + k] = factor;
            for (j = k + 1; j < n; j++) m[n * i + j] -= factor * m[n * k + j];
        }
    }
    return sign;
}

static void tape_solve(double *r, const double *a, const double *b, size_t batch, size_t n,
                       size_t columns, int turned, double *m)
{
    double *order = m + n * n;
    size_t s, c, i, j;
    for (s = 0; s < batch; s++, a += n * n, r += n * columns) {
        int singular = 0;
        (void)tape_eliminate(m, order, a, n, turned);
        for (i = 0; i < n; i++) singular |= m[n * i + i] == 0.0;
        for (c = 0; c < columns; c++) {
            double *x = r + c;
            for (i = 0; i < n; i++)
                x[columns * i] = b ? b[(s * n + i) * columns + c] : (i == c ? 1.0 : 0.0);
            for (i = 0; i < n; i++) {
                const size_t other = (size_t)order[i];
                const double upper = x[columns * i];
                x[columns * i] = x[columns * other];
                x[columns * other] = upper;
            }
            for (i = 0; i < n; i++)
                for (j = 0; j < i; j++) x[columns * i] -= m[n * i + j] * x[columns * j];
            for (i = n; i-- > 0;) {
                for (j = i + 1; j < n; j++) x[columns * i] -= m[n * i + j] * x[columns * j];
                x[columns * i] = singular ? NAN : x[columns * i] / m[n * i + i];
            }
        }
    }
}

static void tape_det(double *r, const double *a, size_t batch, size_t n, double *m)
{
    size_t s, k;
    for (s = 0; s < batch; s++) {
        r[s] = tape_eliminate(m, m + n * n, a + n * n * s, n, 0);
        for (k = 0; k < n; k++) r[s] *= m[n * k + k];
    }
}

static void tape_cofactors(double *r, const double *a, size_t batch, size_t n, double *minor)
{
    double *m = minor + (n - 1) * (n - 1), *order = m + (n - 1) * (n - 1);
    size_t s, i, j, k, h, place;
    for (s = 0; s < batch; s++, a += n * n, r += n * n)
        for (i = 0; i < n; i++)
            for (j = 0; j < n; j++) {
                double product;
                place = 0;
                for (k = 0; k < n; k++)
                    for (h = 0; h < n; h++) if (k != i && h != j) minor[place++] = a[n * k + h];
                product = tape_eliminate(m, order, minor, n - 1, 0);
                for (k = 0; k + 1 < n; k++) product *= m[(n - 1) * k + k];
                r[n * i + j] = (i + j) % 2 ? -product : product;
            }
}

static void tape_slogdet(double *r, const double *a, size_t batch, size_t n,
                         double (*log_of)(double), double *m)
{
    size_t s, k;
    for (s = 0; s < batch; s++) {
        double sign = tape_eliminate(m, m + n * n, a + n * n * s, n, 0), total = 0.0;
        for (k = 0; k < n; k++) {
            const double pivot = m[n * k + k];
            if (pivot < 0.0) sign = -sign;
            if (pivot == 0.0) sign = 0.0;
            total += pivot == 0.0 ? -INFINITY : log_of(fabs(pivot));
        }
        r[s] = sign;
        r[batch + s] = total;
    }
}
