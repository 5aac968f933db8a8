import math, numpy as np
L = np.longdouble
# (tanh(x) - x)/x^3 as function of z = x^2 on [0, .5625^2]
def f(z):
    # Taylor of tanh with many terms via Bernoulli, longdouble ok up to |x|<pi/2
    x = np.sqrt(z)
    if x < L(1e-3):
        return L(-1)/3 + 2*z/15
    return (np.tanh(x) - x) / (x*z)
from fractions import Fraction
def bern(n):
    B=[Fraction(0)]*(n+1)
    A=[Fraction(0)]*(n+1)
    for m in range(n+1):
        A[m]=Fraction(1,m+1)
        for j in range(m,0,-1): A[j-1]=j*(A[j-1]-A[j])
        B[m]=A[0]
    return B
B=bern(120)
coef=[]  # tanh = sum 2^{2n}(2^{2n}-1)B_{2n}/(2n)! x^{2n-1}
for n in range(2,60):
    c=Fraction(2**(2*n)*(2**(2*n)-1))*B[2*n]/math.factorial(2*n)
    coef.append(L(c.numerator)/L(c.denominator) if abs(c.numerator)<10**300 and c.denominator<10**300 else L(float(c)))
def f(z):
    s=L(0)
    for c in reversed(coef): s=s*z+c
    return s
def fit(deg, top):
    k=np.arange(deg+1); x=((np.cos(np.pi*(2*k+1)/(2*(deg+1)))+1)/2).astype(L)*L(top)
    c=np.array([f(v) for v in x])
    for j in range(1,deg+1): c[j:]=(c[j:]-c[j-1:-1])/(x[j:]-x[:-j])
    poly=[c[-1]]
    for j in range(deg-1,-1,-1):
        new=[L(0)]*(len(poly)+1)
        for i,a in enumerate(poly): new[i+1]+=a; new[i]-=a*x[j]
        new[0]+=c[j]; poly=new
    zs=np.linspace(0,top,5001).astype(L)
    err=max(abs(sum(a*z**i for i,a in enumerate(poly))-f(z))*z for z in zs)
    return poly,float(err)
for deg in (5,6,13,14,15):
    p,e=fit(deg,.5625**2); print(deg,e,[f"{np.float32(a):.10g}" if deg<8 else f"{float(a):.20g}" for a in p])
