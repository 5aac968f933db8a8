// What a kernel sees of a GPU when it runs on a processor: see simt.cc, which runs each of its threads as a fiber.

#pragma once

#include <cmath>
#include <cstdint>

struct float2 {
  float x, y;
};
struct alignas(16) float4 {
  float x, y, z, w;
};
inline float2 make_float2(float x, float y) { return {x, y}; }
using std::fmaf;
inline int min(int a, int b) { return a < b ? a : b; }

#define __device__
#define __forceinline__ inline

// The thread that runs now.
struct SimtThread {
  struct {
    unsigned x;
  } thread, block, grid;
  float* shared;  // of its block
};
struct SimtCopy {
  float* to;
  const float* from;
};
extern "C" {
SimtThread* simt_thread();
void simt_wait_for_block();
void simt_wait_for_warp();
void simt_wait_for_cluster();
float simt_exchange(float value, int mask);  // the value of the lane with the number lane ^ mask
unsigned simt_ballot(bool value);
float* simt_in_block(float* own, int block);  // the same place in another block of the cluster
void simt_start_copy(float* to, const float* from);
void simt_end_copies();
bool simt_next_copy(int pending, SimtCopy* copy);  // the next one that must happen before at most `pending` groups are left
unsigned simt_load_acquire(const unsigned* from);
void simt_add_release(unsigned* to);
}

#define threadIdx (simt_thread()->thread)
#define blockIdx (simt_thread()->block)
#define gridDim (simt_thread()->grid)

inline void __syncthreads() { simt_wait_for_block(); }
inline void __syncwarp() { simt_wait_for_warp(); }
inline float __shfl_xor_sync(unsigned, float value, int mask) { return simt_exchange(value, mask); }
inline unsigned __ballot_sync(unsigned, bool value) { return simt_ballot(value); }
inline float4 __ldcg(const float4* from) { return *from; }

namespace jlstm {

inline float* shared_memory() { return simt_thread()->shared; }
inline unsigned load_acquire(const unsigned* from) { return simt_load_acquire(from); }
inline void add_release(unsigned* to) { simt_add_release(to); }
inline void store_in_block(float* own, int block, float value) { *simt_in_block(own, block) = value; }
inline void wait_for_cluster() { simt_wait_for_cluster(); }
inline void start_copy(float* to, const float* from) { simt_start_copy(to, from); }
inline void end_copies() { simt_end_copies(); }
template <int pending>
inline void wait_for_copies() {
  for (SimtCopy copy; simt_next_copy(pending, &copy);)
    *reinterpret_cast<float4*>(copy.to) = *reinterpret_cast<const float4*>(copy.from);
}

}  // namespace jlstm
