// What differs between a GPU and the emulator in tests/simt.h: memory that threads share, and how they wait for each other.

#pragma once

#ifdef JLSTM_EMULATED
#include "simt.h"
#else

namespace jlstm {

// The dynamic shared memory of a block, whose size the launch gives.
__device__ __forceinline__ float* shared_memory() {
  extern __shared__ float4 memory[];
  return reinterpret_cast<float*>(memory);
}

// A read that sees all that other blocks wrote before the `add_release` whose sum it reads.
__device__ __forceinline__ unsigned load_acquire(const unsigned* from) {
  unsigned value;
  asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(value) : "l"(from) : "memory");
  return value;
}

__device__ __forceinline__ void add_release(unsigned* to) {
  asm volatile("red.release.gpu.global.add.u32 [%0], 1;" ::"l"(to) : "memory");
}

// Writes into the same place of the shared memory of another block of the cluster.
__device__ __forceinline__ void store_in_block(float* own, int block, float value) {
#if __CUDA_ARCH__ >= 900
  const unsigned address = unsigned(__cvta_generic_to_shared(own));
  unsigned remote;
  asm volatile("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(remote) : "r"(address), "r"(block));
  asm volatile("st.shared::cluster.f32 [%0], %1;" ::"r"(remote), "f"(value) : "memory");
#endif
}

__device__ __forceinline__ void wait_for_cluster() {
#if __CUDA_ARCH__ >= 900
  // Not the form `.aligned`, for which the threads of a warp must run the same instruction at the same time.
  asm volatile("barrier.cluster.arrive.release;\nbarrier.cluster.wait.acquire;" ::: "memory");
#endif
}

// Copies 16 bytes from global to shared memory, while the thread goes on. `wait_for_copies` waits until at most `pending` of the
// groups that `end_copies` ended are still on their way.
__device__ __forceinline__ void start_copy(float* to, const float* from) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(unsigned(__cvta_generic_to_shared(to))), "l"(from) : "memory");
}
__device__ __forceinline__ void end_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int pending>
__device__ __forceinline__ void wait_for_copies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(pending) : "memory");
}

}  // namespace jlstm

#endif
