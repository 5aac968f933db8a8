import ctypes, sys, time
sys.path.insert(0,'/tmp/wt')
import jax, jax.numpy as jnp, numpy as np, jlstm
lib=ctypes.CDLL('/tmp/native/lib.so')
for n in ('Infer','Train','Back'):
    jax.ffi.register_ffi_target('jlstm_'+n, jax.ffi.pycapsule(getattr(lib,'Jlstm'+n)), platform='cpu')
S=jax.ShapeDtypeStruct; f4=jnp.float32
def cdiv(a,b): return -(-a//b)
def infer(xs,w,u,b,h0,c0,threads=0):
    T,B,F=xs.shape; H=u.shape[0]
    return jax.ffi.ffi_call('jlstm_Infer',(S((T,B,H),f4),S((B,H),f4),S((B,H),f4)))(xs,w,u,b,h0,c0,threads=np.int64(threads))
def train(xs,w,u,b,h0,c0,threads=0):
    T,B,F=xs.shape; H=u.shape[0]; nb=cdiv(H,16)
    return jax.ffi.ffi_call('jlstm_Train',(S((T,B,H),f4),S((B,H),f4),S((B,H),f4),S((T,B,nb*64),f4),S((T,B,nb*16),f4)))(xs,w,u,b,h0,c0,threads=np.int64(threads))
def back(xs,w,u,b,h0,c0,ys,gates,cs,dys,dh,dc,inputs=True,threads=0):
    T,B,F=xs.shape; H=u.shape[0]
    return jax.ffi.ffi_call('jlstm_Back',(S((T,B,F) if inputs else (0,),f4),S(w.shape,f4),S(u.shape,f4),S(b.shape,f4),S((B,H),f4),S((B,H),f4)))(xs,w,u,b,h0,c0,ys,gates,cs,dys,dh,dc,threads=np.int64(threads))
def loss_native(inputs=False):
    @jax.custom_vjp
    def run(p,xs,h0,c0): return infer(xs,p['kernel'],p['recurrent_kernel'],p['bias'],h0,c0)
    def fwd(p,xs,h0,c0):
        ys,h,c,g,cs=train(xs,p['kernel'],p['recurrent_kernel'],p['bias'],h0,c0)
        return (ys,h,c),(p,xs,h0,c0,ys,g,cs)
    def bwd(res,ct):
        p,xs,h0,c0,ys,g,cs=res
        dxs,dw,du,db,dh0,dc0=back(xs,p['kernel'],p['recurrent_kernel'],p['bias'],h0,c0,ys,g,cs,*ct,inputs=inputs)
        return dict(kernel=dw,recurrent_kernel=du,bias=db),(dxs if inputs else jnp.zeros_like(xs)),dh0,dc0
    run.defvjp(fwd,bwd)
    return run
if __name__=='__main__':
    for B,T,F,H in [(3,5,7,4),(5,4,3,17),(20,6,30,70),(1,9,5,33),(64,7,16,128),(2,3,200,650),(128,8,15,10),(13,20,40,48)]:
        layer=jlstm.LSTM(H,time_major=True,backend='scan')
        p=layer.init(jax.random.key(0),F)
        k=jax.random.split(jax.random.key(1),6)
        xs=jax.random.normal(k[0],(T,B,F)); h0=jax.random.normal(k[1],(B,H)); c0=jax.random.normal(k[2],(B,H))
        ct=(jax.random.normal(k[3],(T,B,H)),jax.random.normal(k[4],(B,H)),jax.random.normal(k[5],(B,H)))
        def ref(p,xs,h0,c0):
            carry,ys=layer.apply(p,xs,jlstm.cell.Carry(h0,c0)); return ys,carry.h,carry.c
        with jax.enable_x64(True):
            up=lambda t: jax.tree.map(lambda a: jnp.asarray(np.asarray(a),jnp.float64),t)
            l64=jlstm.LSTM(H,time_major=True,backend='scan')
            def ref64(p,xs,h0,c0):
                carry,ys=l64.apply(p,xs,jlstm.cell.Carry(h0,c0)); return ys,carry.h,carry.c
            truth,vjp=jax.vjp(ref64,*up((p,xs,h0,c0))); tg=vjp(up(ct))
        r,rv=jax.vjp(ref,p,xs,h0,c0); rg=rv(ct)
        nat=loss_native(True); o,nv=jax.vjp(nat,p,xs,h0,c0); ng=nv(ct)
        err=lambda a,t: max(float(np.abs(np.asarray(x,np.float64)-np.asarray(y)).max()) for x,y in zip(jax.tree.leaves(a),jax.tree.leaves(t)))
        o2=jax.jit(nat)(p,xs,h0,c0)
        print((B,T,F,H),'fwd err native %.1e scan %.1e infer==train %s | grads native %.1e scan %.1e'%(err(o,truth),err(r,truth),all((a==b).all() for a,b in zip(o,o2)),err(ng,tg),err(rg,tg)),flush=True)
