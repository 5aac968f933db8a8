#include "launch.h"

#include <fstream>
#include <iterator>
#include <map>
#include <mutex>
#include <tuple>

namespace jlstm::cuda {
namespace {

constexpr const char* kEntry = "jlstm_kernel";
constexpr int kLargestPortableCluster = 8;

Context context_of(const Driver& driver, Stream stream) {
  Context context;
  driver.check(driver.stream_get_context(stream, &context), "the GPU's context is not known");
  return context;
}

// While XLA records a CUDA graph, this thread may not load kernels unless it says that it may.
class RelaxedCapture {
 public:
  explicit RelaxedCapture(const Driver& driver) : driver_(driver) {
    driver.check(driver.exchange_capture_mode(&mode_), "CUDA's capture mode cannot be changed");
  }
  ~RelaxedCapture() { driver_.exchange_capture_mode(&mode_); }

 private:
  const Driver& driver_;
  CaptureMode mode_ = kCaptureRelaxed;  // the one before, after the first exchange
};

std::string read(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::string image{std::istreambuf_iterator<char>(file), {}};
  if (!file || image.empty()) throw Failure("the compiled kernel " + path + " cannot be read: compile the program again");
  return image;
}

LaunchConfig configuration(const Launch& launch, Stream stream, LaunchAttribute (&attributes)[2]) {
  unsigned count = 0;
  if (launch.cooperative) {
    attributes[count] = {kCooperative, {}, {}};
    attributes[count++].value.cooperative = 1;
  }
  if (launch.cluster > 1) {
    attributes[count] = {kClusterDimension, {}, {}};
    attributes[count++].value.cluster = {unsigned(launch.cluster), 1, 1};
  }
  return {
      unsigned(launch.blocks), 1, 1, unsigned(launch.threads), 1, 1, unsigned(launch.shared_bytes), stream, attributes, count};
}

struct Kernel {
  Function function;
  int64_t fitting_blocks;  // that can run at the same time
};

int64_t fitting_blocks(const Driver& driver, Function function, const Launch& launch) {
  int count = 0;
  if (launch.cluster > 1) {
    LaunchAttribute attributes[2];
    const LaunchConfig config = configuration(launch, nullptr, attributes);
    driver.check(driver.max_clusters(&count, function, &config), "the room for clusters is not known");
    return int64_t(count) * launch.cluster;
  }
  Device device;
  driver.check(driver.context_get_device(&device), "the GPU of the context is not known");
  driver.check(driver.max_blocks_of_multiprocessor(&count, function, launch.threads, size_t(launch.shared_bytes)),
               "the room for blocks is not known");
  return int64_t(count) * driver.attribute(kMultiprocessorCount, device);
}

Kernel load(const Driver& driver, const Launch& launch) {
  const std::string path(launch.kernel), image = read(path);
  const RelaxedCapture relaxed(driver);
  Module module;
  Kernel kernel{};
  driver.check(driver.module_load_data(&module, image.data()), "the compiled kernel " + path + " cannot be loaded");
  driver.check(driver.module_get_function(&kernel.function, module, kEntry), "the file " + path + " has no kernel");
  driver.check(driver.function_set_attribute(kernel.function, kMaxDynamicSharedBytes, launch.shared_bytes),
               "the GPU has less than " + std::to_string(launch.shared_bytes) + " bytes of shared memory for a block");
  if (launch.cluster > kLargestPortableCluster) {
    driver.check(driver.function_set_attribute(kernel.function, kLargeClusters, 1),
                 "the GPU has no clusters of " + std::to_string(launch.cluster) + " blocks");
  }
  kernel.fitting_blocks = fitting_blocks(driver, kernel.function, launch);
  return kernel;
}

// The kernels that are loaded in one context. They stay loaded until the process ends: compiled programs may call them at any
// time.
class Kernels {
 public:
  const Kernel& get(const Driver& driver, const Launch& launch) {
    const Key key{std::string(launch.kernel), launch.threads, launch.cluster, launch.shared_bytes};
    const std::lock_guard lock(mutex_);
    auto at = kernels_.find(key);
    if (at == kernels_.end()) at = kernels_.emplace(key, load(driver, launch)).first;
    return at->second;
  }

 private:
  using Key = std::tuple<std::string, int32_t, int32_t, int32_t>;
  std::mutex mutex_;
  std::map<Key, Kernel> kernels_;
};

// CUDA may wait for a GPU's work when it loads a kernel. That work may wait for another GPU, to which another thread has yet to
// give its part. So GPUs do not share the lock that is held meanwhile.
Kernels& kernels_of(Context context) {
  static std::mutex mutex;
  static auto& contexts = *new std::map<Context, Kernels>;  // never destroyed: threads of XLA outlive this library's objects
  const std::lock_guard lock(mutex);
  return contexts[context];
}

}  // namespace

ContextOf::ContextOf(const Driver& driver, Stream stream) : context(context_of(driver, stream)), driver_(driver) {
  driver.check(driver.context_push(context), "the GPU's context cannot be used");
}

ContextOf::~ContextOf() {
  Context popped;
  driver_.context_pop(&popped);
}

void launch(const Driver& driver, const ContextOf& current, Stream stream, const Launch& launch, void** parameters) {
  const Kernel& kernel = kernels_of(current.context).get(driver, launch);
  // Blocks that wait for others that cannot start would wait for ever.
  if (launch.cooperative && launch.blocks > kernel.fitting_blocks) {
    throw Failure("the kernel needs " + std::to_string(launch.blocks) + " blocks at the same time, and the GPU has room for " +
                      std::to_string(kernel.fitting_blocks),
                  kTooLarge);
  }
  LaunchAttribute attributes[2];
  const LaunchConfig config = configuration(launch, stream, attributes);
  driver.check(driver.launch(&config, kernel.function, parameters, nullptr), "the kernel could not be launched");
}

}  // namespace jlstm::cuda
