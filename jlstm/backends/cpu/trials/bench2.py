import sys, time
sys.path.insert(0,'/tmp/native')
from test1 import *
import torch
torch.set_num_threads(2)
sizes=[(128,28,128,128),(20,35,650,650),(128,300,15,10),(1,1000,64,256),(64,100,512,512),(32,200,300,128),(16,100,128,1024),(256,50,40,64),(1,100,32,32),(8,500,80,320)]
budget=float(sys.argv[1]) if len(sys.argv)>1 else 4
gm=[[],[]]
for B,T,F,H in sizes:
    xs=np.asarray(jax.random.normal(jax.random.key(1),(T,B,F)))
    layer=jlstm.LSTM(H,time_major=True,backend='fused'); p=layer.init(jax.random.key(0),F)
    z=jnp.zeros((B,H)); nat=loss_native(False)
    jx=jnp.asarray(xs)
    fused_f=jax.jit(lambda p,x: layer.apply(p,x)[1]); fused_g=jax.jit(jax.grad(lambda p,x:(layer.apply(p,x)[1]**2).sum()))
    nat_f=jax.jit(lambda p,x: nat(p,x,z,z)[0]); nat_g=jax.jit(jax.grad(lambda p,x:(nat(p,x,z,z)[0]**2).sum()))
    tl=torch.nn.LSTM(F,H); tx=torch.from_numpy(xs.copy())
    def tf():
        with torch.no_grad(): return tl(tx)[0]
    def tg():
        tl.zero_grad(); y=tl(tx)[0]; (y**2).sum().backward()
    runs={'fused':(lambda:jax.block_until_ready(fused_f(p,jx)),lambda:jax.block_until_ready(fused_g(p,jx))),'native':(lambda:jax.block_until_ready(nat_f(p,jx)),lambda:jax.block_until_ready(nat_g(p,jx))),'torch':(tf,tg)}
    t={b:([],[]) for b in runs}
    for b in runs:
        for h in runs[b]: h(); h()
    end=time.time()+budget
    while time.time()<end:
        for b in runs:
            for k,h in enumerate(runs[b]):
                s=time.perf_counter(); h(); t[b][k].append(time.perf_counter()-s)
    m={b:[float(np.median(v))*1e3 for v in t[b]] for b in runs}
    flop=2*B*T*(F+H)*4*H/1e9
    print((B,T,F,H),{b:tuple(round(v,2) for v in m[b]) for b in m},'torch/native fwd %.2f step %.2f'%(m['torch'][0]/m['native'][0],m['torch'][1]/m['native'][1]),'GFLOP/s fwd %.0f step %.0f'%(flop/m['native'][0]*1e3,3*flop/m['native'][1]*1e3),flush=True)
    for k in (0,1): gm[k].append(m['torch'][k]/m['native'][k])
print('geomean', [round(float(np.exp(np.mean(np.log(v)))),2) for v in gm])
