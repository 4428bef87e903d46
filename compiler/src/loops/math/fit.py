#!/usr/bin/env python3
"""Prints the polynomials of this folder as Rust constants: `python3 fit.py [NAME]...` (needs mpmath).

Each is the minimax fit (Remez exchange; E. Ya. Remez, 1934) of `target(u)` under `weight(u)`, so
that `weight * (target - p)` is the relative error of the function that is built from it.
The error printed is that of the rounded coefficients, evaluated exactly.
"""

import struct
import sys
from mpmath import mp, mpf, exp, log, sin, cos, atan, asin, erf, erfc, sqrt, tanh, pi, lu_solve, matrix, inf

mp.prec = 400


def round_to(x, bits):
    if bits == 64:
        return mpf(float(x))
    return mpf(struct.unpack("f", struct.pack("f", float(x)))[0])


def nodes(a, b, n):
    return [(a + b) / 2 - (b - a) / 2 * cos(pi * i / (n - 1)) for i in range(n)]


def extrema(err, a, b, n):
    """The points of an alternating sequence of n greatest errors, on a dense grid."""
    grid = nodes(a, b, 24 * n)
    values = [err(x) for x in grid]
    groups = []
    for x, v in zip(grid, values):
        if groups and (groups[-1][1] > 0) == (v > 0):
            if abs(v) > abs(groups[-1][1]):
                groups[-1] = (x, v)
        else:
            groups.append((x, v))
    while len(groups) > n:
        groups.pop(0 if abs(groups[0][1]) < abs(groups[-1][1]) else -1)
    return groups


def remez(target, weight, a, b, count):
    """count coefficients, lowest first, and the weighted error."""
    # Off the symmetric places, where a weight may be zero.
    xs = [x + (b - a) * mpf("0.01") * (1 - 2 * (x - a) / (b - a)) + (b - a) / 1000 for x in nodes(a, b, count + 1)]
    tabulated = {}

    def tw(x):
        if x not in tabulated:
            tabulated[x] = (target(x), weight(x))
        return tabulated[x]

    for _ in range(12):
        m, rhs = matrix(count + 1, count + 1), matrix(count + 1, 1)
        for i, x in enumerate(xs):
            t, w = tw(x)
            for j in range(count):
                m[i, j] = w * x**j
            m[i, count] = (-1) ** i
            rhs[i] = w * t
        sol = lu_solve(m, rhs)
        c = [sol[j] for j in range(count)]

        def err(x):
            t, w = tw(x)
            return w * (t - sum(cj * x**j for j, cj in enumerate(c)))

        groups = extrema(err, a, b, count + 1)
        worst = max(abs(v) for _, v in groups)
        if len(groups) < count + 1 or worst < abs(sol[count]) * mpf("1.01"):
            break
        xs = [x for x, _ in groups]
    return c, worst


def fit(target, weight, a, b, count, bits):
    """As remez, with rounded coefficients."""
    a, b = mpf(a), mpf(b)
    c = [round_to(x, bits) for x in remez(target, weight, a, b, count)[0]]
    worst = max(
        abs(weight(x) * (target(x) - sum(cj * x**j for j, cj in enumerate(c)))) for x in nodes(a, b, 500)
    )
    return c, worst


EPS = mpf(2) ** -100
LN2 = log(mpf(2))


def away(u):
    """Keeps series quotients off zero."""
    return u if abs(u) > EPS else EPS


def exp_tail(r):
    r = away(r)
    return (exp(r) - 1 - r) / r**2


def log_tail(f):
    f = away(f)
    return (log(1 + f) - f + f**2 / 2) / f**3


def sin_tail(z):
    r = sqrt(away(abs(z)))
    return (sin(r) - r) / r**3


def tanh_tail(z):
    r = sqrt(away(abs(z)))
    return (tanh(r) - r) / r**3


def cos_tail(z):
    r = sqrt(away(abs(z)))
    return (cos(r) - 1 + r**2 / 2) / r**4


def log_ratio_tail(z):
    s = sqrt(away(abs(z)))
    return (log((1 + s) / (1 - s)) - 2 * s) / s**3


def atan_tail(z):
    t = sqrt(away(abs(z)))
    return (atan(t) - t) / t**3


def asin_tail(z):
    t = sqrt(away(abs(z)))
    return (asin(t) - t) / t**3


def erf_ratio(z):
    t = sqrt(away(abs(z)))
    return erf(t) / t


def erf_tail(u):
    return -log(erfc(u + 1))


def erf_tail_weight(u):
    return erfc(u + 1) / erf(u + 1)


S = mpf("1.0001")
HALF_LN2, QUARTER_PI = LN2 / 2 * S, pi / 4 * S
LOG_LOW, LOG_HIGH = sqrt(mpf(2)) / 2 - 1, sqrt(mpf(2)) - 1
LOG_S = (3 - 2 * sqrt(mpf(2))) * S
TAN_EIGHTH = (sqrt(mpf(2)) - 1) * S


def poly(name, doc, target, weight, a, b, count, bits):
    return name, lambda: show(name, doc, bits, *fit(target, weight, a, b, count, bits))


def show(name, doc, bits, c, worst):
    print(f"/// {doc}; relative error 2^{float(log(worst, 2)):.1f}.")
    body = ", ".join(repr(float(x)) for x in c)
    print(f"pub(super) const {name}: [f64; {len(c)}] = [{body}];", flush=True)


JOBS = dict(
    [
        poly("EXP_32", "e^r = 1 + r + r^2 p(r), |r| <= ln(2)/2", exp_tail, lambda r: r**2 / exp(r), -HALF_LN2, HALF_LN2, 5, 32),
        poly("LOG_32", "log(1+f) = f - f^2/2 + f^3 p(f), 1+f between the roots of 1/2 and 2", log_tail, lambda f: away(f) ** 3 / log(1 + away(f)), LOG_LOW, LOG_HIGH, 9, 32),
        poly("SIN_32", "sin r = r + r^3 p(r^2), |r| <= pi/4", sin_tail, lambda z: z * sqrt(abs(away(z))) / sin(sqrt(abs(away(z)))), 0, QUARTER_PI**2, 3, 32),
        poly("COS_32", "cos r = 1 - r^2/2 + r^4 p(r^2), |r| <= pi/4", cos_tail, lambda z: z**2 / cos(sqrt(abs(z))), 0, QUARTER_PI**2, 3, 32),
        poly("TANH_32", "tanh x = x + x^3 p(x^2), |x| <= 5/8", tanh_tail, lambda z: z * sqrt(away(abs(z))) / tanh(sqrt(away(abs(z)))), 0, mpf("0.625") ** 2, 5, 32),
        poly("ERF_SMALL_32", "erf x = x + x p(x^2), |x| <= 1", lambda z: erf_ratio(z) - 1, lambda z: 1 / erf_ratio(z), 0, 1, 7, 32),
        poly("ERF_TAIL_32", "-log(erfc x) = p(x - 1), 1 <= x <= 4", erf_tail, erf_tail_weight, 0, 3, 8, 32),
        poly("EXP_64", "e^r = 1 + r + r^2 p(r), |r| <= ln(2)/2", exp_tail, lambda r: r**2 / exp(r), -HALF_LN2, HALF_LN2, 10, 64),
        poly("LOG_64", "log((1+s)/(1-s)) = 2 s + s^3 p(s^2), |s| <= 3 - 2 sqrt(2)", log_ratio_tail, lambda z: abs(z) / log_ratio_tail(0) / 3, 0, LOG_S**2, 7, 64),
        poly("SIN_64", "sin r = r + r^3 p(r^2), |r| <= pi/4", sin_tail, lambda z: z * sqrt(abs(away(z))) / sin(sqrt(abs(away(z)))), 0, QUARTER_PI**2, 6, 64),
        poly("COS_64", "cos r = 1 - r^2/2 + r^4 p(r^2), |r| <= pi/4", cos_tail, lambda z: z**2 / cos(sqrt(abs(z))), 0, QUARTER_PI**2, 6, 64),
        poly("ATAN_64", "atan t = t + t^3 p(t^2), |t| <= tan(pi/8)", atan_tail, lambda z: z, 0, TAN_EIGHTH**2, 12, 64),
        poly("ASIN_64", "asin t = t + t^3 p(t^2), |t| <= 1/2", asin_tail, lambda z: z, 0, mpf("0.25"), 13, 64),
        poly("ERF_SMALL_64", "erf x = x + x p(x^2), |x| <= 1", lambda z: erf_ratio(z) - 1, lambda z: 1 / erf_ratio(z), 0, 1, 15, 64),
        poly("ERF_TAIL_64", "-log(erfc x) = p(x - 1), 1 <= x <= 6", erf_tail, erf_tail_weight, 0, 5, 20, 64),
    ]
)

if __name__ == "__main__":
    for name in sys.argv[1:] or JOBS:
        JOBS[name]()
