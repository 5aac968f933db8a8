// XLA calls these.
#include "src/run.h"
#include <cstdlib>
#include "xla/ffi/api/ffi.h"
namespace ffi = xla::ffi;
using namespace jlstm;
static Team team_of(ffi::ThreadPool pool, int64_t threads) {
  return Team(threads > 0 ? threads : pool.num_threads(), [pool](std::function<void()> task) mutable { pool.Schedule(std::move(task)); });
}
// Memory that a thread keeps from call to call: fresh memory would cost a page fault for every 4 KiB, at every call.
class Arena {
 public:
  void* take(size_t bytes) {
    bytes = (bytes + 63) / 64 * 64;
    if (used_ + bytes > size_) {
      overflow_.emplace_back(static_cast<char*>(std::aligned_alloc(64, bytes)), &std::free);
      spilled_ += bytes;
      return overflow_.back().get();
    }
    void* at = block_.get() + used_;
    used_ += bytes;
    return at;
  }
  void reset() {
    if (spilled_) {
      overflow_.clear();
      size_ = used_ + spilled_ > size_ ? used_ + spilled_ : size_;
      block_.reset(static_cast<char*>(std::aligned_alloc(64, size_)));
    }
    used_ = spilled_ = 0;
  }
 private:
  std::unique_ptr<char, decltype(&std::free)> block_{nullptr, &std::free};
  std::vector<std::unique_ptr<char, decltype(&std::free)>> overflow_;
  size_t size_ = 0, used_ = 0, spilled_ = 0;
};
static Allocate allocator(ffi::ScratchAllocator&) {
  static thread_local Arena arena;
  arena.reset();
  return [](size_t bytes) -> void* { return arena.take(bytes); };
}
using F = ffi::Buffer<ffi::F32>;
using R = ffi::ResultBuffer<ffi::F32>;
static ffi::Error Infer(ffi::ThreadPool pool, ffi::ScratchAllocator scratch, F xs, F w, F u, F b, F h0, F c0, R ys, R h, R c, int64_t threads) {
  auto d = xs.dimensions();
  Forward<float> f{};
  f.n = {d[0], d[1], d[2], u.dimensions()[0], false};
  f.xs = xs.typed_data(), f.h0 = h0.typed_data(), f.c0 = c0.typed_data(), f.ys = ys->typed_data(), f.h = h->typed_data(), f.c = c->typed_data();
  forward<float>(f, {w.typed_data(), u.typed_data(), b.typed_data()}, team_of(pool, threads), allocator(scratch));
  return ffi::Error::Success();
}
static ffi::Error Train(ffi::ThreadPool pool, ffi::ScratchAllocator scratch, F xs, F w, F u, F b, F h0, F c0, R ys, R h, R c, R gates, R cs, int64_t threads) {
  auto d = xs.dimensions();
  Forward<float> f{};
  f.n = {d[0], d[1], d[2], u.dimensions()[0], false};
  f.xs = xs.typed_data(), f.h0 = h0.typed_data(), f.c0 = c0.typed_data(), f.ys = ys->typed_data(), f.h = h->typed_data(), f.c = c->typed_data();
  f.gates = gates->typed_data(), f.cs = cs->typed_data();
  forward<float>(f, {w.typed_data(), u.typed_data(), b.typed_data()}, team_of(pool, threads), allocator(scratch));
  return ffi::Error::Success();
}
static ffi::Error Back(ffi::ThreadPool pool, ffi::ScratchAllocator scratch, F xs, F w, F u, F b, F h0, F c0, F ys, F gates, F cs, F dys, F dh, F dc,
                       R dxs, R dw, R du, R db, R dh0, R dc0, int64_t threads) {
  auto d = xs.dimensions();
  Forward<float> f{};
  f.n = {d[0], d[1], d[2], u.dimensions()[0], false};
  f.xs = xs.typed_data(), f.h0 = h0.typed_data(), f.c0 = c0.typed_data(), f.ys = ys.typed_data();
  f.gates = gates.typed_data(), f.cs = cs.typed_data();
  backward<float>(f, {w.typed_data(), u.typed_data(), b.typed_data()}, dys.typed_data(), dh.typed_data(), dc.typed_data(),
                  {dxs->element_count() ? dxs->typed_data() : nullptr, dw->typed_data(), du->typed_data(), db->typed_data(), dh0->typed_data(), dc0->typed_data()}, team_of(pool, threads), allocator(scratch));
  return ffi::Error::Success();
}
#define BIND ffi::Ffi::Bind().Ctx<ffi::ThreadPool>().Ctx<ffi::ScratchAllocator>()
XLA_FFI_DEFINE_HANDLER_SYMBOL(JlstmInfer, Infer, BIND.Arg<F>().Arg<F>().Arg<F>().Arg<F>().Arg<F>().Arg<F>().Ret<F>().Ret<F>().Ret<F>().Attr<int64_t>("threads"));
XLA_FFI_DEFINE_HANDLER_SYMBOL(JlstmTrain, Train, BIND.Arg<F>().Arg<F>().Arg<F>().Arg<F>().Arg<F>().Arg<F>().Ret<F>().Ret<F>().Ret<F>().Ret<F>().Ret<F>().Attr<int64_t>("threads"));
XLA_FFI_DEFINE_HANDLER_SYMBOL(JlstmBack, Back, BIND.Arg<F>().Arg<F>().Arg<F>().Arg<F>().Arg<F>().Arg<F>().Arg<F>().Arg<F>().Arg<F>().Arg<F>().Arg<F>().Arg<F>().Ret<F>().Ret<F>().Ret<F>().Ret<F>().Ret<F>().Ret<F>().Attr<int64_t>("threads"));
