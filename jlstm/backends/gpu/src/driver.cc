#include "driver.h"

#include <dlfcn.h>
#include <unistd.h>

#include <atomic>

namespace jlstm::cuda {
namespace {

constexpr int kOldestVersion = 12000;  // CUDA 12.0, the oldest that JAX supports

std::atomic<const Driver*> current{nullptr};
std::atomic<pid_t> process{0};  // the one that opened the driver

struct Library {
  void* handle;

  template <class F>
  void find(F*& function, const char* name) const {
    function = reinterpret_cast<F*>(dlsym(handle, name));
    if (!function) throw Failure(std::string("the CUDA driver has no function ") + name + ": install driver 525 or a newer one");
  }
};

}  // namespace

void Driver::check(Result result, const std::string& what) const {
  if (result == kSuccess) return;
  const char *name = nullptr, *text = nullptr;
  if (get_error_name(result, &name) != kSuccess || get_error_string(result, &text) != kSuccess) {
    throw Failure(what + ": CUDA's error " + std::to_string(int(result)), result);
  }
  throw Failure(what + ": " + text + " (" + name + ")", result);
}

int Driver::attribute(DeviceAttribute attribute, Device device) const {
  int value = 0;
  check(device_get_attribute(&value, attribute, device), "the GPU cannot be queried");
  return value;
}

void open(const char* path) {
  const Library library{dlopen(path, RTLD_NOW | RTLD_LOCAL)};
  if (!library.handle) throw Failure(std::string("the CUDA driver cannot be opened: ") + dlerror());
  Driver driver;
  library.find(driver.get_error_name, "cuGetErrorName");
  library.find(driver.get_error_string, "cuGetErrorString");
  library.find(driver.init, "cuInit");
  library.find(driver.driver_get_version, "cuDriverGetVersion");
  library.find(driver.device_get_count, "cuDeviceGetCount");
  library.find(driver.device_get, "cuDeviceGet");
  library.find(driver.device_get_attribute, "cuDeviceGetAttribute");
  library.find(driver.stream_get_context, "cuStreamGetCtx");
  library.find(driver.context_push, "cuCtxPushCurrent_v2");
  library.find(driver.context_pop, "cuCtxPopCurrent_v2");
  library.find(driver.context_get_device, "cuCtxGetDevice");
  library.find(driver.exchange_capture_mode, "cuThreadExchangeStreamCaptureMode");
  library.find(driver.module_load_data, "cuModuleLoadData");
  library.find(driver.module_get_function, "cuModuleGetFunction");
  library.find(driver.function_set_attribute, "cuFuncSetAttribute");
  library.find(driver.max_blocks_of_multiprocessor, "cuOccupancyMaxActiveBlocksPerMultiprocessor");
  library.find(driver.max_clusters, "cuOccupancyMaxActiveClusters");
  library.find(driver.set_memory, "cuMemsetD32Async");
  library.find(driver.launch, "cuLaunchKernelEx");
  driver.runs_on_processor = dlsym(library.handle, "jlstm_standin");

  driver.check(driver.init(0), "the CUDA driver does not start");
  int version = 0, count = 0;
  driver.check(driver.driver_get_version(&version), "the CUDA driver does not tell its version");
  if (version < kOldestVersion) {
    throw Failure("the CUDA driver is for CUDA " + std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10) +
                  ": install driver 525 or a newer one, which has CUDA 12");
  }
  driver.check(driver.device_get_count(&count), "the CUDA driver does not tell the number of GPUs");
  if (count == 0) throw Failure("the CUDA driver sees no GPU");
  process = getpid();
  current = new Driver(driver);  // never freed: another thread may be using the one before
}

const Driver& opened() {
  const Driver* driver = current;
  if (!driver) throw Failure("the CUDA driver has not been opened");
  if (process != getpid()) {
    throw Failure("CUDA does not work in a process that was forked after its first use: start processes with \"spawn\"");
  }
  return *driver;
}

}  // namespace jlstm::cuda

namespace {

using namespace jlstm::cuda;

// Calls a function, and returns what it throws as a sentence, or "". The text is valid until the next call in this thread.
template <class F>
const char* sentence_of(F&& function) {
  thread_local std::string sentence;
  sentence.clear();
  try {
    function();
  } catch (const std::exception& failure) {
    sentence = failure.what();
  }
  return sentence.c_str();
}

}  // namespace

// The functions that library.py calls. They return why they failed, or "".

extern "C" const char* jlstm_gpu_open(const char* path) {
  return sentence_of([&] { open(path); });
}

// Describes a GPU: compute capability (two numbers), multiprocessors, and the shared memory in bytes that a block may have.
extern "C" const char* jlstm_gpu_describe(int ordinal, int* numbers) {
  return sentence_of([&] {
    const Driver& driver = opened();
    Device device;
    driver.check(driver.device_get(&device, ordinal), "the GPU cannot be queried");
    numbers[0] = driver.attribute(kCapabilityMajor, device);
    numbers[1] = driver.attribute(kCapabilityMinor, device);
    numbers[2] = driver.attribute(kMultiprocessorCount, device);
    numbers[3] = driver.attribute(kMaxSharedBytesOfBlock, device);
  });
}

// The version of CUDA that the driver is for, such as 12040 for CUDA 12.4.
extern "C" const char* jlstm_gpu_driver_version(int* version) {
  return sentence_of([&] {
    const Driver& driver = opened();
    driver.check(driver.driver_get_version(version), "the CUDA driver does not tell its version");
  });
}

// A hash of the sources that the library was built from.
extern "C" const char* jlstm_gpu_sources() { return JLSTM_SOURCES; }
