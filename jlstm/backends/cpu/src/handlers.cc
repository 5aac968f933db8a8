// What XLA calls. All that comes in is checked here: behind this file sizes and types are as they should be.

#include <cstdlib>
#include <initializer_list>
#include <memory>
#include <string>
#include <vector>

#include "pages.h"
#include "run.h"
#include "xla/ffi/api/ffi.h"

namespace {

namespace ffi = xla::ffi;
using namespace jlstm;

// Memory that a thread keeps from call to call: fresh memory would cost a page fault for every 4 KiB, at every call. XLA's own
// allocator for such memory gives none on the CPU. What is more than kKept is given back when the call ends.
constexpr size_t kKept = 64 << 20;

class Arena {
 public:
  void* take(size_t bytes) {
    bytes = (bytes + 63) / 64 * 64;
    if (used_ + bytes <= size_) {
      used_ += bytes;
      return block_.get() + used_ - bytes;
    }
    overflow_.push_back(allocate(bytes));
    spilled_ += bytes;
    return overflow_.back().get();
  }

  // Nothing of what was taken is used any more; the next call finds a block of that size, if it is not too large.
  void release() {
    const size_t wanted = std::min(used_ + spilled_, kKept);
    overflow_.clear();
    used_ = spilled_ = 0;
    if (wanted <= size_) return;
    size_ = 0;
    block_.reset();
    block_ = allocate(wanted);
    size_ = wanted;
  }

 private:
  using Block = std::unique_ptr<char, decltype(&std::free)>;

  static Block allocate(size_t bytes) {
    Block block(static_cast<char*>(std::aligned_alloc(64, bytes)), &std::free);
    if (!block) throw std::bad_alloc();
    prefer_large_pages(block.get(), bytes);
    return block;
  }

  Block block_{nullptr, &std::free};
  std::vector<Block> overflow_;
  size_t size_ = 0, used_ = 0, spilled_ = 0;
};

thread_local Arena arena;

// Calls f with an allocator of this thread's memory.
template <class F>
ffi::Error with_memory(F&& f) {
  try {
    f([](size_t bytes) { return arena.take(bytes); });
    arena.release();
    return ffi::Error::Success();
  } catch (const std::bad_alloc&) {
    arena = Arena();
    return ffi::Error(ffi::ErrorCode::kResourceExhausted, "jlstm's kernel: there is not enough memory");
  }
}

template <class T>
Team team_for(const Sizes& n, ffi::ThreadPool pool) {
  const auto schedule = [pool](std::function<void()> task) mutable { pool.Schedule(std::move(task)); };
  return Team(useful_threads<T>(n, std::max<int64_t>(pool.num_threads(), 1)), schedule);
}

using Shape = std::initializer_list<int64_t>;

// Collects the first complaint about what XLA hands over.
class Checks {
 public:
  template <class Buffer>
  void operator()(const char* name, const Buffer& buffer, ffi::DataType type, Shape shape) {
    const auto dimensions = buffer.dimensions();
    if (buffer.element_type() != type) return complain(name, "has another dtype than xs");
    if (dimensions.size() != shape.size() || !std::equal(shape.begin(), shape.end(), dimensions.begin())) {
      complain(name, "has a shape that does not fit to xs and recurrent_kernel");
    }
  }

  // The same for what may be left out: then it has no elements.
  template <class Buffer>
  void optional(const char* name, const Buffer& buffer, ffi::DataType type, Shape shape) {
    if (buffer.element_count() != 0) (*this)(name, buffer, type, shape);
  }

  void complain(const char* name, const char* what) {
    if (complaint_.empty()) complaint_ = std::string("jlstm's kernel: ") + name + " " + what;
  }

  bool failed() const { return !complaint_.empty(); }
  ffi::Error error() const { return ffi::Error::InvalidArgument(complaint_); }

 private:
  std::string complaint_;
};

template <class T>
constexpr ffi::DataType kType = sizeof(T) == 4 ? ffi::F32 : ffi::F64;

template <class T, class Buffer>
T* data(const Buffer& buffer) {
  return buffer.element_count() ? static_cast<T*>(buffer.untyped_data()) : nullptr;
}

// The same of a result, which is memory that nobody has touched yet.
template <class T, class Buffer>
T* fresh(Buffer& buffer) {
  T* to = data<T>(buffer);
  if (to) prefer_large_pages(to, buffer.size_bytes());
  return to;
}

struct Inputs {
  ffi::AnyBuffer xs, kernel, recurrent, bias, h0, c0, mask, resets;
};

template <class T>
Sizes check_inputs(const Inputs& in, bool reverse, Checks& check) {
  const auto of_xs = in.xs.dimensions(), of_recurrent = in.recurrent.dimensions();
  if (of_xs.size() != 3) check.complain("xs", "is not (time, batch, features)");
  if (of_recurrent.size() != 2) check.complain("recurrent_kernel", "is not (units, 4 units)");
  if (check.failed()) return {};
  const Sizes n{of_xs[0], of_xs[1], of_xs[2], of_recurrent[0], reverse};
  check("kernel", in.kernel, kType<T>, {n.features, 4 * n.units});
  check("recurrent_kernel", in.recurrent, kType<T>, {n.units, 4 * n.units});
  check("bias", in.bias, kType<T>, {4 * n.units});
  check("h", in.h0, kType<T>, {n.batch, n.units});
  check("c", in.c0, kType<T>, {n.batch, n.units});
  check.optional("mask", in.mask, ffi::PRED, {n.time, n.batch});
  check.optional("resets", in.resets, ffi::PRED, {n.time, n.batch});
  return n;
}

template <class T>
Forward<T> given(const Inputs& in, const Sizes& n) {
  Forward<T> f{};
  f.n = n;
  f.xs = data<T>(in.xs), f.h0 = data<T>(in.h0), f.c0 = data<T>(in.c0);
  f.mask = data<const uint8_t>(in.mask), f.resets = data<const uint8_t>(in.resets);
  return f;
}

template <class T>
Weights<T> weights(const Inputs& in) {
  return {data<T>(in.kernel), data<T>(in.recurrent), data<T>(in.bias)};
}

template <class T>
ffi::Error run_forward(ffi::ThreadPool pool, const Inputs& in, ffi::Result<ffi::AnyBuffer> ys, ffi::Result<ffi::AnyBuffer> h,
                       ffi::Result<ffi::AnyBuffer> c, ffi::RemainingRets kept, bool reverse) {
  Checks check;
  const Sizes n = check_inputs<T>(in, reverse, check);
  if (check.failed()) return check.error();
  Forward<T> f = given<T>(in, n);
  check("ys", *ys, kType<T>, {n.time, n.batch, n.units});
  check("final h", *h, kType<T>, {n.batch, n.units});
  check("final c", *c, kType<T>, {n.batch, n.units});
  f.ys = fresh<T>(*ys), f.h = data<T>(*h), f.c = data<T>(*c);
  if (kept.size() != 0) {
    if (kept.size() != (f.carried() ? 3u : 2u)) check.complain("what is kept", "is not gates and c and, with mask or resets, h");
    if (check.failed()) return check.error();
    auto gates = *kept.get<ffi::AnyBuffer>(0), cs = *kept.get<ffi::AnyBuffer>(1);
    check("gates", *gates, kType<T>, {n.time, n.batch, columns<T>(n)});
    check("cs", *cs, kType<T>, {n.time, n.batch, padded<T>(n)});
    f.gates = fresh<T>(*gates), f.cs = fresh<T>(*cs);
    if (f.carried()) {
      auto hs = *kept.get<ffi::AnyBuffer>(2);
      check("hs", *hs, kType<T>, {n.time, n.batch, n.units});
      f.hs = fresh<T>(*hs);
    }
  }
  if (check.failed()) return check.error();
  return with_memory([&](const Allocate& allocate) { forward<T>(f, weights<T>(in), team_for<T>(n, pool), allocate); });
}

ffi::Error run(ffi::ThreadPool pool, ffi::AnyBuffer xs, ffi::AnyBuffer kernel, ffi::AnyBuffer recurrent, ffi::AnyBuffer bias,
               ffi::AnyBuffer h0, ffi::AnyBuffer c0, ffi::AnyBuffer mask, ffi::AnyBuffer resets, ffi::Result<ffi::AnyBuffer> ys,
               ffi::Result<ffi::AnyBuffer> h, ffi::Result<ffi::AnyBuffer> c, ffi::RemainingRets kept, bool reverse) {
  const Inputs in{xs, kernel, recurrent, bias, h0, c0, mask, resets};
  if (xs.element_type() == ffi::F32) return run_forward<float>(pool, in, ys, h, c, kept, reverse);
  if (xs.element_type() == ffi::F64) return run_forward<double>(pool, in, ys, h, c, kept, reverse);
  return ffi::Error::InvalidArgument("jlstm's kernel: xs must be float32 or float64");
}

struct Kept {
  ffi::AnyBuffer hs, gates, cs;  // hs is ys where nothing is masked or reset
};

struct Outer {
  ffi::AnyBuffer dys, dh, dc;
};

struct Inner {
  ffi::Result<ffi::AnyBuffer> dzs, dxs, dkernel, drecurrent, dbias, dh0, dc0;
};

template <class T>
ffi::Error run_backward(ffi::ThreadPool pool, const Inputs& in, const Kept& kept, const Outer& from, Inner to, bool reverse) {
  Checks check;
  const Sizes n = check_inputs<T>(in, reverse, check);
  if (check.failed()) return check.error();
  Forward<T> f = given<T>(in, n);
  check("hs", kept.hs, kType<T>, {n.time, n.batch, n.units});
  check("gates", kept.gates, kType<T>, {n.time, n.batch, columns<T>(n)});
  check("cs", kept.cs, kType<T>, {n.time, n.batch, padded<T>(n)});
  check("dys", from.dys, kType<T>, {n.time, n.batch, n.units});
  check("dh", from.dh, kType<T>, {n.batch, n.units});
  check("dc", from.dc, kType<T>, {n.batch, n.units});
  check("dzs", *to.dzs, kType<T>, {n.time, n.batch, columns<T>(n)});
  check.optional("dxs", *to.dxs, kType<T>, {n.time, n.batch, n.features});
  if (to.drecurrent->element_count() != 0) {
    check("dkernel", *to.dkernel, kType<T>, {n.features, 4 * n.units});
    check("drecurrent", *to.drecurrent, kType<T>, {n.units, 4 * n.units});
    check("dbias", *to.dbias, kType<T>, {4 * n.units});
  }
  check("dh0", *to.dh0, kType<T>, {n.batch, n.units});
  check("dc0", *to.dc0, kType<T>, {n.batch, n.units});
  if (check.failed()) return check.error();
  (f.carried() ? f.hs : f.ys) = data<T>(kept.hs);
  f.gates = data<T>(kept.gates), f.cs = data<T>(kept.cs);
  const Gradients<T> gradients{data<T>(*to.dzs),     fresh<T>(*to.dxs), data<T>(*to.dkernel), data<T>(*to.drecurrent),
                               data<T>(*to.dbias), data<T>(*to.dh0), data<T>(*to.dc0)};
  return with_memory([&](const Allocate& allocate) {
    backward<T>(f, weights<T>(in), data<T>(from.dys), data<T>(from.dh), data<T>(from.dc), gradients, team_for<T>(n, pool), allocate);
  });
}

ffi::Error run_back(ffi::ThreadPool pool, ffi::AnyBuffer xs, ffi::AnyBuffer kernel, ffi::AnyBuffer recurrent, ffi::AnyBuffer bias,
                    ffi::AnyBuffer h0, ffi::AnyBuffer c0, ffi::AnyBuffer mask, ffi::AnyBuffer resets, ffi::AnyBuffer hs,
                    ffi::AnyBuffer gates, ffi::AnyBuffer cs, ffi::AnyBuffer dys, ffi::AnyBuffer dh, ffi::AnyBuffer dc,
                    ffi::Result<ffi::AnyBuffer> dzs, ffi::Result<ffi::AnyBuffer> dxs, ffi::Result<ffi::AnyBuffer> dkernel,
                    ffi::Result<ffi::AnyBuffer> drecurrent, ffi::Result<ffi::AnyBuffer> dbias, ffi::Result<ffi::AnyBuffer> dh0,
                    ffi::Result<ffi::AnyBuffer> dc0, bool reverse) {
  const Inputs in{xs, kernel, recurrent, bias, h0, c0, mask, resets};
  const Kept kept{hs, gates, cs};
  const Outer from{dys, dh, dc};
  const Inner to{dzs, dxs, dkernel, drecurrent, dbias, dh0, dc0};
  if (xs.element_type() == ffi::F32) return run_backward<float>(pool, in, kept, from, to, reverse);
  if (xs.element_type() == ffi::F64) return run_backward<double>(pool, in, kept, from, to, reverse);
  return ffi::Error::InvalidArgument("jlstm's kernel: xs must be float32 or float64");
}

using Any = ffi::AnyBuffer;

}  // namespace

XLA_FFI_DEFINE_HANDLER_SYMBOL(JlstmForward, run,
                              ffi::Ffi::Bind().Ctx<ffi::ThreadPool>()
                                  .Arg<Any>().Arg<Any>().Arg<Any>().Arg<Any>().Arg<Any>().Arg<Any>().Arg<Any>().Arg<Any>()
                                  .Ret<Any>().Ret<Any>().Ret<Any>().RemainingRets()
                                  .Attr<bool>("reverse"));

XLA_FFI_DEFINE_HANDLER_SYMBOL(JlstmBackward, run_back,
                              ffi::Ffi::Bind().Ctx<ffi::ThreadPool>()
                                  .Arg<Any>().Arg<Any>().Arg<Any>().Arg<Any>().Arg<Any>().Arg<Any>().Arg<Any>().Arg<Any>()
                                  .Arg<Any>().Arg<Any>().Arg<Any>().Arg<Any>().Arg<Any>().Arg<Any>()
                                  .Ret<Any>().Ret<Any>().Ret<Any>().Ret<Any>().Ret<Any>().Ret<Any>().Ret<Any>()
                                  .Attr<bool>("reverse"));
