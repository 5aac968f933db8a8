// The CUDA driver, opened at run time: the library has no link to CUDA, so that it can be loaded on every machine.
//
// These are the few declarations of NVIDIA's cuda.h that the library needs, under other names. They are the same in CUDA 12.0
// to 13. Where cuda.h defines a macro for a function, the name in the driver is that of the macro's value, such as
// cuCtxPushCurrent_v2.

#pragma once

#include <cstddef>
#include <stdexcept>
#include <string>

// Opaque types of cuda.h.
struct CUctx_st;
struct CUfunc_st;
struct CUmod_st;
struct CUstream_st;

namespace jlstm::cuda {

using Context = CUctx_st*;
using Device = int;  // CUdevice
using Function = CUfunc_st*;
using Module = CUmod_st*;
using Pointer = unsigned long long;  // CUdeviceptr
using Stream = CUstream_st*;

enum Result : int { kSuccess = 0, kOutOfMemory = 2, kTooLarge = 720 };  // CUresult

enum DeviceAttribute : int {  // CUdevice_attribute
  kMultiprocessorCount = 16,
  kCapabilityMajor = 75,
  kCapabilityMinor = 76,
  kMaxSharedBytesOfBlock = 97,  // ..._MAX_SHARED_MEMORY_PER_BLOCK_OPTIN: what a kernel may have that asks for it
};

enum FunctionAttribute : int { kMaxDynamicSharedBytes = 8, kLargeClusters = 14 };  // CUfunction_attribute

enum CaptureMode : int { kCaptureRelaxed = 2 };  // CUstreamCaptureMode

enum LaunchAttributeId : int { kCooperative = 2, kClusterDimension = 4 };  // CUlaunchAttributeID

struct LaunchAttribute {  // CUlaunchAttribute
  LaunchAttributeId id;
  char padding[8 - sizeof(LaunchAttributeId)];
  union {
    alignas(8) char size[64];
    int cooperative;
    struct {
      unsigned x, y, z;
    } cluster;
  } value;
};

struct LaunchConfig {  // CUlaunchConfig
  unsigned grid_x, grid_y, grid_z, block_x, block_y, block_z, shared_bytes;
  Stream stream;
  LaunchAttribute* attributes;
  unsigned attribute_count;
};

// What went wrong, as one sentence.
class Failure : public std::runtime_error {
 public:
  explicit Failure(const std::string& sentence, Result why = kSuccess) : std::runtime_error(sentence), result(why) {}
  const Result result;
};

struct Driver {
  Result (*get_error_name)(Result, const char**);
  Result (*get_error_string)(Result, const char**);
  Result (*init)(unsigned flags);
  Result (*driver_get_version)(int*);
  Result (*device_get_count)(int*);
  Result (*device_get)(Device*, int ordinal);
  Result (*device_get_attribute)(int*, DeviceAttribute, Device);
  Result (*stream_get_context)(Stream, Context*);
  Result (*context_push)(Context);
  Result (*context_pop)(Context*);
  Result (*context_get_device)(Device*);
  Result (*exchange_capture_mode)(CaptureMode*);
  Result (*module_load_data)(Module*, const void* image);
  Result (*module_get_function)(Function*, Module, const char* name);
  Result (*function_set_attribute)(Function, FunctionAttribute, int value);
  Result (*max_blocks_of_multiprocessor)(int*, Function, int threads, size_t shared_bytes);
  Result (*max_clusters)(int*, Function, const LaunchConfig*);
  Result (*set_memory)(Pointer, unsigned value, size_t count, Stream);  // writes 32-bit values
  Result (*launch)(const LaunchConfig*, Function, void** parameters, void** extra);
  bool runs_on_processor;  // whether this is the stand-in of the tests, which has no streams

  // Throws a Failure if a result is an error. `what` is the beginning of the sentence.
  void check(Result, const std::string& what) const;
  int attribute(DeviceAttribute, Device) const;
};

// Opens the driver. A later call may open another one, which `opened` then returns.
void open(const char* path);

// The driver that was opened last. Throws a Failure if there is none, or if the process was forked since.
const Driver& opened();

}  // namespace jlstm::cuda
