"""Coefficients of (expm1(r) - r) / r² on |r| ≤ ln2/2, by interpolation at Chebyshev nodes in extended precision."""
import math, sys
import numpy as np
L = np.longdouble
def series(r, n=30):
    s = L(0)
    for k in range(n, 1, -1):
        s = s * r + L(1) / L(math.factorial(k))
    return s
def fit(degree):
    half = L("0.34657359027997265470861606072908828") * L(1.0005)
    k = np.arange(degree + 1)
    x = np.cos(np.pi * (2 * k + 1) / (2 * (degree + 1))).astype(L) * half
    # Newton's divided differences -> monomials
    y = np.array([series(v) for v in x])
    c = y.copy()
    for j in range(1, degree + 1):
        c[j:] = (c[j:] - c[j-1:-1]) / (x[j:] - x[:-j])
    p = np.zeros(degree + 1, L); p[0] = c[-1]; 
    poly = [c[-1]]
    for j in range(degree - 1, -1, -1):
        new = [L(0)] * (len(poly) + 1)
        for i, a in enumerate(poly):
            new[i + 1] += a
            new[i] -= a * x[j]
        new[0] += c[j]
        poly = new
    r = np.linspace(-float(half), float(half), 10001).astype(L)
    err = [abs((sum(a * v**i for i, a in enumerate(poly)) - series(v)) * v * v / (v + v * v * series(v))) if v else 0 for v in r]
    return poly, max(err)
for degree in (4, 5, 9, 10, 11):
    poly, err = fit(degree)
    print(degree, float(err), [f"{float(a):.20g}" if degree > 5 else f"{np.float32(a):.10g}" for a in poly])
