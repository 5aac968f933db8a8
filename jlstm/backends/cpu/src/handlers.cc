// The functions that XLA calls. They check the shapes and types of all arrays, so that the other files need no checks.

#include "arena.h"
#include "calls.h"
#include "pages.h"
#include "run.h"

namespace {

using namespace jlstm;

thread_local Arena arena;

// Calls f with an allocator of this thread's memory. A lack of memory becomes an error of XLA.
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

// Like data, for a large result. Nobody has touched its memory yet, so that it can still get large pages.
template <class T, class Buffer>
T* result_data(Buffer& buffer) {
  T* result = data<T>(buffer);
  if (result) prefer_large_pages(result, buffer.size_bytes());
  return result;
}

struct Inputs {
  ffi::AnyBuffer xs, kernel, recurrent, bias, peepholes, projection, h0, c0, mask, resets;
};

struct Options {
  CellOptions cell;
  bool reverse;
  double projection_clip;  // infinite if there is none
};

// Calls f(cell, number) with the cell of a call. Only the type of the number is used.
template <class F>
ffi::Error with_types(const Inputs& in, const Options& o, F&& f) {
  const auto shape = in.recurrent.dimensions();
  const int64_t units = shape.size() == 2 ? shape[1] / 4 : 0;
  const auto type = in.xs.element_type();
  const auto call = [&](auto number) {
    using T = decltype(number);
    return with_cell<T>(o.cell, in.peepholes, units, [&](const auto& cell) { return f(cell, number); });
  };
  if (type == ffi::F32) return call(float{});
  if (type == ffi::F64) return call(double{});
  return ffi::Error::InvalidArgument("jlstm's kernel: xs must be float32 or float64");
}

template <class Cell, class T>
Sizes check_inputs(const Inputs& in, bool reverse, Checks& check) {
  const auto xs_shape = in.xs.dimensions(), recurrent_shape = in.recurrent.dimensions();
  if (xs_shape.size() != 3) check.complain("xs", "is not (time, batch, features)");
  if (recurrent_shape.size() != 2) check.complain("recurrent_kernel", "is not (size of h, 4 units)");
  if (check.failed()) return {};
  // Only a cell with c has a projection.
  const int64_t projected = in.projection.element_count() && Cell::has_c ? recurrent_shape[0] : 0;
  const Sizes n{xs_shape[0], xs_shape[1], xs_shape[2], recurrent_shape[1] / 4, reverse, projected};
  check("kernel", in.kernel, kType<T>, {n.features, 4 * n.units});
  check("recurrent_kernel", in.recurrent, kType<T>, {n.h_size(), 4 * n.units});
  check("bias", in.bias, kType<T>, {4 * n.units});
  check.optional("peepholes", in.peepholes, kType<T>, {Cell::peepholes, n.units});
  check.optional("projection", in.projection, kType<T>, {n.units + 1, n.projected});
  check("h", in.h0, kType<T>, {n.batch, n.h_size()});
  check("c", in.c0, kType<T>, {n.batch, Cell::has_c ? n.units : 0});
  check.optional("mask", in.mask, ffi::PRED, {n.time, n.batch});
  check.optional("resets", in.resets, ffi::PRED, {n.time, n.batch});
  return n;
}

// A forward run with its inputs set; the caller sets the results.
template <class T>
Forward<T> forward_of(const Inputs& in, const Sizes& n, const Options& o) {
  Forward<T> f{};
  f.n = n, f.projection_clip = T(o.projection_clip);
  f.xs = data<T>(in.xs), f.h0 = data<T>(in.h0), f.c0 = data<T>(in.c0);
  f.mask = data<const uint8_t>(in.mask), f.resets = data<const uint8_t>(in.resets);
  return f;
}

template <class T>
Weights<T> weights(const Inputs& in) {
  return {data<T>(in.kernel), data<T>(in.recurrent), data<T>(in.bias), data<T>(in.projection)};
}

template <class Cell, class T>
ffi::Error run_forward(const Cell& cell, ffi::ThreadPool pool, const Inputs& in, ffi::Result<ffi::AnyBuffer> ys,
                       ffi::Result<ffi::AnyBuffer> h, ffi::Result<ffi::AnyBuffer> c, ffi::RemainingRets residuals,
                       const Options& o) {
  Checks check;
  const Sizes n = check_inputs<Cell, T>(in, o.reverse, check);
  if (check.failed()) return check.error();
  Forward<T> f = forward_of<T>(in, n, o);
  check("ys", *ys, kType<T>, {n.time, n.batch, n.h_size()});
  check("final h", *h, kType<T>, {n.batch, n.h_size()});
  check("final c", *c, kType<T>, {n.batch, Cell::has_c ? n.units : 0});
  f.ys = result_data<T>(*ys), f.h = data<T>(*h), f.c = data<T>(*c);
  if (residuals.size() != 0) {
    if (residuals.size() != (f.stores_h() ? 3u : 2u)) {
      check.complain("what is kept", "is not gates and c and, with mask or resets, h");
    }
    if (check.failed()) return check.error();
    auto gates = *residuals.get<ffi::AnyBuffer>(0), cs = *residuals.get<ffi::AnyBuffer>(1);
    check("gates", *gates, kType<T>, {n.time, n.batch, columns<T>(n)});
    check("cs", *cs, kType<T>, {n.time, n.batch, Cell::has_c ? padded<T>(n) : 0});
    f.gates = result_data<T>(*gates), f.cs = result_data<T>(*cs);
    if (f.stores_h()) {
      auto hs = *residuals.get<ffi::AnyBuffer>(2);
      check("hs", *hs, kType<T>, {n.time, n.batch, n.h_size()});
      f.hs = result_data<T>(*hs);
    }
  }
  if (check.failed()) return check.error();
  return with_memory([&](const Allocate& allocate) {
    forward<Cell, T>(cell, f, weights<T>(in), team_for<T>(n, pool), allocate);
  });
}

ffi::Error run(ffi::ThreadPool pool, ffi::AnyBuffer xs, ffi::AnyBuffer kernel, ffi::AnyBuffer recurrent, ffi::AnyBuffer bias,
               ffi::AnyBuffer peepholes, ffi::AnyBuffer projection, ffi::AnyBuffer h0, ffi::AnyBuffer c0, ffi::AnyBuffer mask,
               ffi::AnyBuffer resets,
               ffi::Result<ffi::AnyBuffer> ys, ffi::Result<ffi::AnyBuffer> h, ffi::Result<ffi::AnyBuffer> c,
               ffi::RemainingRets residuals, Options options) {
  const Inputs in{xs, kernel, recurrent, bias, peepholes, projection, h0, c0, mask, resets};
  return with_types(in, options, [&](const auto& cell, auto number) {
    return run_forward<std::decay_t<decltype(cell)>, decltype(number)>(cell, pool, in, ys, h, c, residuals, options);
  });
}

// The arrays of the forward run that its derivative reads.
struct Residuals {
  ffi::AnyBuffer ys, hs, gates, cs;  // without mask and resets hs is ys: then the h before a step is the previous output
};

struct OutputGradients {
  ffi::AnyBuffer dys, dh, dc;
};

struct InputGradients {
  ffi::Result<ffi::AnyBuffer> dzs, ms, dqs, dxs, dkernel, drecurrent, dbias, dpeepholes, dprojection, dh0, dc0;
};

template <class Cell, class T>
ffi::Error run_backward(const Cell& cell, ffi::ThreadPool pool, const Inputs& in, const Residuals& residuals,
                        const OutputGradients& from, InputGradients to, const Options& o) {
  Checks check;
  const Sizes n = check_inputs<Cell, T>(in, o.reverse, check);
  if (check.failed()) return check.error();
  Forward<T> f = forward_of<T>(in, n, o);
  check("ys", residuals.ys, kType<T>, {n.time, n.batch, n.h_size()});
  check("hs", residuals.hs, kType<T>, {n.time, n.batch, n.h_size()});
  check("gates", residuals.gates, kType<T>, {n.time, n.batch, columns<T>(n)});
  check("cs", residuals.cs, kType<T>, {n.time, n.batch, Cell::has_c ? padded<T>(n) : 0});
  check("dys", from.dys, kType<T>, {n.time, n.batch, n.h_size()});
  check("dh", from.dh, kType<T>, {n.batch, n.h_size()});
  check("dc", from.dc, kType<T>, {n.batch, Cell::has_c ? n.units : 0});
  check("dzs", *to.dzs, kType<T>, {n.time, n.batch, columns<T>(n)});
  if (n.projected) {
    check("ms", *to.ms, kType<T>, {n.time, n.batch, padded<T>(n)});
    check("dqs", *to.dqs, kType<T>, {n.time, n.batch, n.projected});
  }
  check.optional("dxs", *to.dxs, kType<T>, {n.time, n.batch, n.features});
  if (to.drecurrent->element_count() != 0) {
    check("dkernel", *to.dkernel, kType<T>, {n.features, 4 * n.units});
    check("drecurrent", *to.drecurrent, kType<T>, {n.h_size(), 4 * n.units});
    check("dbias", *to.dbias, kType<T>, {4 * n.units});
    check.optional("dpeepholes", *to.dpeepholes, kType<T>, {Cell::peepholes, n.units});
    check.optional("dprojection", *to.dprojection, kType<T>, {n.units + 1, n.projected});
  }
  check("dh0", *to.dh0, kType<T>, {n.batch, n.h_size()});
  check("dc0", *to.dc0, kType<T>, {n.batch, Cell::has_c ? n.units : 0});
  if (check.failed()) return check.error();
  f.ys = data<T>(residuals.ys), f.hs = f.stores_h() ? data<T>(residuals.hs) : nullptr;
  f.gates = data<T>(residuals.gates), f.cs = data<T>(residuals.cs);
  const Gradients<T> gradients{data<T>(*to.dzs),     result_data<T>(*to.dxs), data<T>(*to.dkernel), data<T>(*to.drecurrent),
                               data<T>(*to.dbias),  data<T>(*to.dpeepholes),  data<T>(*to.dh0),     data<T>(*to.dc0),
                               data<T>(*to.dprojection), data<T>(*to.ms), data<T>(*to.dqs)};
  return with_memory([&](const Allocate& allocate) {
    backward<Cell, T>(cell, f, weights<T>(in), data<T>(from.dys), data<T>(from.dh), data<T>(from.dc), gradients,
                      team_for<T>(n, pool), allocate);
  });
}

ffi::Error run_back(ffi::ThreadPool pool, ffi::AnyBuffer xs, ffi::AnyBuffer kernel, ffi::AnyBuffer recurrent, ffi::AnyBuffer bias,
                    ffi::AnyBuffer peepholes, ffi::AnyBuffer projection, ffi::AnyBuffer h0, ffi::AnyBuffer c0,
                    ffi::AnyBuffer mask, ffi::AnyBuffer resets, ffi::AnyBuffer ys, ffi::AnyBuffer hs, ffi::AnyBuffer gates,
                    ffi::AnyBuffer cs, ffi::AnyBuffer dys, ffi::AnyBuffer dh, ffi::AnyBuffer dc,
                    ffi::Result<ffi::AnyBuffer> dzs, ffi::Result<ffi::AnyBuffer> ms, ffi::Result<ffi::AnyBuffer> dqs,
                    ffi::Result<ffi::AnyBuffer> dxs, ffi::Result<ffi::AnyBuffer> dkernel, ffi::Result<ffi::AnyBuffer> drecurrent,
                    ffi::Result<ffi::AnyBuffer> dbias, ffi::Result<ffi::AnyBuffer> dpeepholes,
                    ffi::Result<ffi::AnyBuffer> dprojection, ffi::Result<ffi::AnyBuffer> dh0, ffi::Result<ffi::AnyBuffer> dc0,
                    Options options) {
  const Inputs in{xs, kernel, recurrent, bias, peepholes, projection, h0, c0, mask, resets};
  const Residuals residuals{ys, hs, gates, cs};
  const OutputGradients from{dys, dh, dc};
  const InputGradients to{dzs, ms, dqs, dxs, dkernel, drecurrent, dbias, dpeepholes, dprojection, dh0, dc0};
  return with_types(in, options, [&](const auto& cell, auto number) {
    return run_backward<std::decay_t<decltype(cell)>, decltype(number)>(cell, pool, in, residuals, from, to, options);
  });
}

}  // namespace

XLA_FFI_REGISTER_STRUCT_ATTR_DECODING(Options, JLSTM_CELL_OPTIONS, ffi::StructMember<bool>("reverse"),
                                      ffi::StructMember<double>("projection_clip"));

namespace {

using Any = ffi::AnyBuffer;

}  // namespace

XLA_FFI_DEFINE_HANDLER_SYMBOL(JlstmForward, run,
                              ffi::Ffi::Bind().Ctx<ffi::ThreadPool>()
                                  .Arg<Any>().Arg<Any>().Arg<Any>().Arg<Any>().Arg<Any>().Arg<Any>()
                                  .Arg<Any>().Arg<Any>().Arg<Any>().Arg<Any>()
                                  .Ret<Any>().Ret<Any>().Ret<Any>().RemainingRets()
                                  .Attrs<Options>());

XLA_FFI_DEFINE_HANDLER_SYMBOL(JlstmBackward, run_back,
                              ffi::Ffi::Bind().Ctx<ffi::ThreadPool>()
                                  .Arg<Any>().Arg<Any>().Arg<Any>().Arg<Any>().Arg<Any>().Arg<Any>()
                                  .Arg<Any>().Arg<Any>().Arg<Any>().Arg<Any>()
                                  .Arg<Any>().Arg<Any>().Arg<Any>().Arg<Any>().Arg<Any>().Arg<Any>().Arg<Any>()
                                  .Ret<Any>().Ret<Any>().Ret<Any>().Ret<Any>().Ret<Any>().Ret<Any>().Ret<Any>().Ret<Any>()
                                  .Ret<Any>().Ret<Any>().Ret<Any>()
                                  .Attrs<Options>());
