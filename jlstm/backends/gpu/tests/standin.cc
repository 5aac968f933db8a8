// A stand-in for the CUDA driver, libcuda.so.1, that runs kernels on a processor. It has the functions that src/driver.h
// declares.
//
// A compiled kernel is here the path of a shared library, which ends with a zero byte. Its function
//
//   bool jlstm_emulate(unsigned blocks, unsigned threads, unsigned cluster, size_t shared_bytes, void** parameters)
//
// runs a launch, at once. It returns false if the kernel fails. Errors that a GPU's driver would return for wrong calls are
// returned here too.
//
// The environment variable JLSTM_STANDIN has settings such as "multiprocessors=4 cuInit=100". The name of a function is set to
// the error that it returns. `log` is a file to which each call is written as a line of JSON.

#include <dlfcn.h>
#include <fcntl.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <sstream>
#include <string>
#include <vector>

#include "driver.h"

using namespace jlstm::cuda;

namespace {

constexpr auto kInvalidValue = Result(1), kInvalidImage = Result(200), kInvalidContext = Result(201), kNotFound = Result(500),
               kLaunchFailed = Result(719), kCaptureUnsupported = Result(900);

std::string text_setting(const std::string& name) {
  const char* all = std::getenv("JLSTM_STANDIN");
  std::istringstream words(all ? all : "");
  for (std::string word; words >> word;) {
    if (word.rfind(name + "=", 0) == 0) return word.substr(name.size() + 1);
  }
  return "";
}

int setting(const std::string& name, int fallback) {
  const std::string text = text_setting(name);
  return text.empty() ? fallback : std::stoi(text);
}

// Writes a call with its arguments, members of a JSON object, to the log. Returns the error that the function is set to.
Result record(const std::string& function, const std::string& arguments = "") {
  if (const std::string path = text_setting("log"); !path.empty()) {
    const std::string line = "{\"function\": \"" + function + "\"" + (arguments.empty() ? "" : ", " + arguments) + "}\n";
    const int file = ::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600);
    if (file < 0 || write(file, line.data(), line.size()) != ssize_t(line.size())) std::abort();
    close(file);
  }
  return Result(setting(function, kSuccess));
}

std::string member(const char* name, long long value) { return std::string("\"") + name + "\": " + std::to_string(value); }

thread_local std::vector<Context> contexts;  // the stack of this thread
// As if this thread were recording a CUDA graph: it may not load kernels unless it says so.
thread_local CaptureMode capture_mode = CaptureMode(0);

}  // namespace

// A context is one of these. It is for the GPU with the same number.
struct CUctx_st {
} all_contexts[8];

struct CUmod_st {
  void* library;
};

struct CUfunc_st {
  bool (*emulate)(unsigned blocks, unsigned threads, unsigned cluster, size_t shared_bytes, void** parameters);
  std::atomic<int> shared_bytes{48 * 1024};  // the most that a launch may have
  std::atomic<bool> large_clusters{false};
};

extern "C" {

void jlstm_standin() {}  // tells the library that its calls have no streams

Result cuGetErrorName(Result result, const char** name) {
  *name = result == kOutOfMemory ? "CUDA_ERROR_OUT_OF_MEMORY" : "CUDA_ERROR_OF_STANDIN";
  return kSuccess;
}

Result cuGetErrorString(Result result, const char** text) {
  thread_local std::string sentence;
  sentence = result == kOutOfMemory ? "out of memory" : "error " + std::to_string(int(result));
  *text = sentence.c_str();
  return kSuccess;
}

Result cuInit(unsigned) { return record("cuInit"); }

Result cuDriverGetVersion(int* version) {
  *version = setting("version", 12040);
  return record("cuDriverGetVersion");
}

Result cuDeviceGetCount(int* count) {
  *count = setting("gpus", 1);
  return record("cuDeviceGetCount");
}

Result cuDeviceGet(Device* device, int ordinal) {
  *device = ordinal;
  return record("cuDeviceGet");
}

Result cuDeviceGetAttribute(int* value, DeviceAttribute attribute, Device device) {
  const int capability = setting("capability" + std::to_string(device), setting("capability", 90));
  *value = attribute == kCapabilityMajor       ? capability / 10
           : attribute == kCapabilityMinor     ? capability % 10
           : attribute == kMultiprocessorCount ? setting("multiprocessors", 132)
                                               : setting("shared_bytes", 232448);
  return record("cuDeviceGetAttribute", member("attribute", attribute));
}

// The streams of calls on a processor are null, so contexts take turns.
Result cuStreamGetCtx(Stream, Context* context) {
  static std::atomic<unsigned> calls{0};
  *context = &all_contexts[calls++ % unsigned(setting("contexts", 1))];
  return record("cuStreamGetCtx");
}

Result cuCtxPushCurrent_v2(Context context) {
  contexts.push_back(context);
  return record("cuCtxPushCurrent_v2");
}

Result cuCtxPopCurrent_v2(Context* context) {
  if (contexts.empty()) return kInvalidContext;
  *context = contexts.back();
  contexts.pop_back();
  return record("cuCtxPopCurrent_v2");
}

Result cuCtxGetDevice(Device* device) {
  if (contexts.empty()) return kInvalidContext;
  *device = Device(contexts.back() - all_contexts);
  return record("cuCtxGetDevice");
}

Result cuThreadExchangeStreamCaptureMode(CaptureMode* mode) {
  std::swap(*mode, capture_mode);
  return record("cuThreadExchangeStreamCaptureMode");
}

Result cuModuleLoadData(Module* module, const void* image) {
  if (contexts.empty()) return kInvalidContext;
  if (capture_mode != kCaptureRelaxed) return kCaptureUnsupported;
  usleep(1000 * unsigned(setting("load_milliseconds", 0)));
  // As if the work of this GPU, for which CUDA waits here, waited for work that another GPU gets after its own loading.
  static std::atomic<int> loading{0};
  ++loading;
  for (int millisecond = 0; loading < setting("loading_together", 0); ++millisecond) {
    if (millisecond == 5000) return kLaunchFailed;
    usleep(1000);
  }
  void* const library = dlopen(static_cast<const char*>(image), RTLD_NOW | RTLD_LOCAL);
  if (!library) return kInvalidImage;
  *module = new CUmod_st{library};
  return record("cuModuleLoadData", member("context", contexts.back() - all_contexts));
}

Result cuModuleGetFunction(Function* function, Module module, const char* name) {
  auto emulate = reinterpret_cast<decltype(CUfunc_st::emulate)>(dlsym(module->library, "jlstm_emulate"));
  if (!emulate || std::string(name) != "jlstm_kernel") return kNotFound;
  *function = new CUfunc_st{emulate};
  return record("cuModuleGetFunction");
}

Result cuFuncSetAttribute(Function function, FunctionAttribute attribute, int value) {
  if (attribute == kMaxDynamicSharedBytes && value > setting("shared_bytes", 232448)) return kInvalidValue;
  if (attribute == kMaxDynamicSharedBytes) function->shared_bytes = value;
  if (attribute == kLargeClusters) function->large_clusters = value;
  return record("cuFuncSetAttribute", member("attribute", attribute) + ", " + member("value", value));
}

Result cuOccupancyMaxActiveBlocksPerMultiprocessor(int* count, Function, int threads, size_t shared_bytes) {
  *count = setting("blocks_of_multiprocessor", 1);
  return record("cuOccupancyMaxActiveBlocksPerMultiprocessor",
                member("threads", threads) + ", " + member("shared_bytes", (long long)shared_bytes));
}

Result cuOccupancyMaxActiveClusters(int* count, Function, const LaunchConfig* config) {
  const int cluster = int(config->attributes[config->attribute_count - 1].value.cluster.x);
  *count = setting("multiprocessors", 132) / cluster;
  return record("cuOccupancyMaxActiveClusters", member("cluster", cluster));
}

Result cuMemsetD32Async(Pointer to, unsigned value, size_t count, Stream) {
  if (contexts.empty()) return kInvalidContext;
  for (size_t i = 0; i < count; ++i) reinterpret_cast<unsigned*>(to)[i] = value;
  return record("cuMemsetD32Async", member("count", (long long)count));
}

Result cuLaunchKernelEx(const LaunchConfig* config, Function function, void** parameters, void**) {
  if (contexts.empty()) return kInvalidContext;
  if (capture_mode == kCaptureRelaxed) return kCaptureUnsupported;  // the mode of the caller must have been restored
  bool cooperative = false;
  unsigned cluster = 1;
  for (unsigned i = 0; i < config->attribute_count; ++i) {
    const LaunchAttribute& attribute = config->attributes[i];
    if (attribute.id == kCooperative) cooperative = attribute.value.cooperative;
    if (attribute.id == kClusterDimension) cluster = attribute.value.cluster.x;
  }
  const Result result =
      record("cuLaunchKernelEx", member("blocks", config->grid_x) + ", " + member("threads", config->block_x) + ", " +
                                     member("cluster", cluster) + ", " + member("cooperative", cooperative) + ", " +
                                     member("shared_bytes", config->shared_bytes) + ", " +
                                     member("attributes", config->attribute_count));
  if (result != kSuccess) return result;
  if (config->grid_y * config->grid_z * config->block_y * config->block_z != 1 || config->grid_x % cluster) return kInvalidValue;
  if (int(config->shared_bytes) > function->shared_bytes || (cluster > 8 && !function->large_clusters)) return kInvalidValue;
  if (cooperative && int(config->grid_x) > setting("multiprocessors", 132) * setting("blocks_of_multiprocessor", 1))
    return kTooLarge;
  return function->emulate(config->grid_x, config->block_x, cluster, config->shared_bytes, parameters) ? kSuccess : kLaunchFailed;
}

}  // extern "C"
