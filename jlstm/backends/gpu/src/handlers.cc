// The functions that XLA calls. They check the arrays, and launch a compiled kernel on the stream of the call.

#include "arguments.h"
#include "calls.h"
#include "launch.h"

namespace {

using namespace jlstm;
using Buffer = ffi::AnyBuffer;
using Result = ffi::Result<ffi::AnyBuffer>;

// The options of a call, by the names that they have in Python: of the cell, and of the plan, see plan.py.
struct Options {
  CellOptions cell;
  bool reverse;
  std::string_view kernel;
  int32_t blocks, threads, cluster;
  bool cooperative;
  int32_t shared_bytes, counters;
  int32_t rows;  // of the batch that one launch runs
};

// What a call has besides the arrays of one direction.
struct Call {
  cuda::Stream stream;
  const Options& options;
  Buffer workspace;
};

// Checks the arrays of both directions, and sets them.
template <class Cell>
Arguments common_arguments(const Buffer& recurrent, const Buffer& peepholes, const Buffer& h0, const Buffer& mask,
                           const Buffer& resets, const Buffer& steps, const Options& options, Checks& check) {
  const auto shape = recurrent.dimensions(), steps_shape = steps.dimensions();
  if (shape.size() != 2) check.complain("recurrent_kernel", "is not (units, 4 units)");
  if (steps_shape.size() != 3) check.complain("the first array of steps", "is not (time, batch, size)");
  if (check.failed()) return {};
  const int64_t units = shape[0], time = steps_shape[0], batch = steps_shape[1];
  check("recurrent_kernel", recurrent, ffi::F32, {units, 4 * units});
  check.optional("peepholes", peepholes, ffi::F32, {Cell::peepholes, units});
  check("h", h0, ffi::F32, {batch, units});
  check.optional("mask", mask, ffi::PRED, {time, batch});
  check.optional("resets", resets, ffi::PRED, {time, batch});
  Arguments a{};
  a.time = int(time), a.batch = int(batch), a.reverse = options.reverse;
  a.recurrent = data<float>(recurrent), a.h0 = data<float>(h0);
  a.mask = data<unsigned char>(mask), a.resets = data<unsigned char>(resets);
  return a;
}

void check_plan(const Call& call, Checks& check) {
  const Options& o = call.options;
  if (o.blocks < 1 || o.threads < 1 || o.rows < 1) check.complain("the plan", "has no blocks, threads or rows");
  if (o.cluster < 1 || o.blocks % o.cluster) check.complain("the plan", "has blocks that do not fill clusters");
  if (o.counters < 0 || o.shared_bytes < 0) check.complain("the plan", "has a negative size");
  if (int64_t(call.workspace.size_bytes()) < o.counters * int64_t(sizeof(uint32_t)))
    check.complain("the workspace", "is too small");
}

ffi::ErrorCode code_of(cuda::Result result) {
  return result == cuda::kOutOfMemory ? ffi::ErrorCode::kResourceExhausted : ffi::ErrorCode::kInternal;
}

// Launches the kernel for all rows of the batch: as many rows at a time as the plan says.
template <class Cell>
ffi::Error launch(const Call& call, Arguments a, Cell cell, Checks& check) {
  check_plan(call, check);
  if (check.failed()) return check.error();
  const Options& o = call.options;
  const cuda::Launch plan{o.kernel, o.blocks, o.threads, o.cluster, o.cooperative, o.shared_bytes};
  a.counters = data<uint32_t>(call.workspace);
  a.exchange = reinterpret_cast<float*>(a.counters + o.counters);
  try {
    const cuda::Driver& driver = cuda::opened();
    if (!call.stream && !driver.runs_on_processor) throw cuda::Failure("XLA gives no stream");
    const cuda::ContextOf context(driver, call.stream);
    for (a.first_row = 0; a.first_row < a.batch; a.first_row += o.rows) {
      a.rows = std::min(o.rows, a.batch - a.first_row);
      if (o.counters) {
        driver.check(driver.set_memory(cuda::Pointer(a.counters), 0, size_t(o.counters), call.stream),
                     "memory could not be cleared");
      }
      void* parameters[] = {&a, &cell};
      cuda::launch(driver, context, call.stream, plan, parameters);
    }
  } catch (const cuda::Failure& failure) {
    return ffi::Error(code_of(failure.result), std::string("jlstm's kernel: ") + failure.what());
  } catch (const std::bad_alloc&) {
    return ffi::Error(ffi::ErrorCode::kResourceExhausted, "jlstm's kernel: there is not enough memory");
  } catch (const std::exception& exception) {  // XLA is compiled without exceptions
    return ffi::Error::Internal(std::string("jlstm's kernel: ") + exception.what());
  }
  return ffi::Error::Success();
}

template <class Cell>
int64_t size_of_c(int64_t units) {
  return Cell::has_c ? units : 0;
}

// Calls f with the cell of a call and a number of its units, of which `recurrent` has a row each.
template <class F>
ffi::Error with_cell_of(const Options& options, const Buffer& recurrent, const Buffer& peepholes, F&& f) {
  const int64_t units = recurrent.dimensions().size() == 2 ? recurrent.dimensions()[0] : 0;
  return with_cell<float>(options.cell, peepholes, units, [&](const auto& cell) { return f(cell, units); });
}

ffi::Error forward(cuda::Stream stream, Buffer zs, Buffer recurrent, Buffer peepholes, Buffer h0, Buffer c0, Buffer mask,
                   Buffer resets, Result ys, Result h, Result c, ffi::RemainingRets rest, Options options) {
  return with_cell_of(options, recurrent, peepholes, [&](const auto& cell, int64_t units) {
    using Cell = std::decay_t<decltype(cell)>;
    Checks check;
    Arguments a = common_arguments<Cell>(recurrent, peepholes, h0, mask, resets, zs, options, check);
    const size_t kept = a.stores_h() ? 3 : 2;  // residuals, if there is a backward run
    if (rest.size() != 1 && rest.size() != kept + 1)
      check.complain("what is kept", "is not gates and c and, with mask or resets, h");
    if (check.failed()) return check.error();
    const int64_t time = a.time, batch = a.batch, padded = rounded_up(int(units), kPadding), units_of_c = size_of_c<Cell>(units);
    check("zs", zs, ffi::F32, {time, batch, 4 * padded});
    check("c", c0, ffi::F32, {batch, units_of_c});
    check("ys", *ys, ffi::F32, {time, batch, units});
    check("final h", *h, ffi::F32, {batch, units});
    check("final c", *c, ffi::F32, {batch, units_of_c});
    a.zs = data<float>(zs), a.c0 = data<float>(c0);
    a.ys = data<float>(*ys), a.h = data<float>(*h), a.c = data<float>(*c);
    if (rest.size() > 1) {
      Result gates = *rest.get<Buffer>(0), cs = *rest.get<Buffer>(1);
      check("gates", *gates, ffi::F32, {time, batch, 4 * padded});
      check("cs", *cs, ffi::F32, {time, batch, size_of_c<Cell>(padded)});
      a.gates = data<float>(*gates), a.cs = data<float>(*cs);
    }
    if (rest.size() > 3) {
      Result hs = *rest.get<Buffer>(2);
      check("hs", *hs, ffi::F32, {time, batch, units});
      a.hs = data<float>(*hs);
    }
    Result workspace = *rest.get<Buffer>(rest.size() - 1);
    return launch(Call{stream, options, *workspace}, a, cell, check);
  });
}

ffi::Error backward(cuda::Stream stream, Buffer recurrent, Buffer peepholes, Buffer h0, Buffer mask, Buffer resets, Buffer hs,
                    Buffer gates, Buffer cs, Buffer dys, Buffer dh, Buffer dc, Result dzs, Result dpeepholes, Result dh0,
                    Result dc0, Result workspace, Options options) {
  return with_cell_of(options, recurrent, peepholes, [&](const auto& cell, int64_t units) {
    using Cell = std::decay_t<decltype(cell)>;
    Checks check;
    Arguments a = common_arguments<Cell>(recurrent, peepholes, h0, mask, resets, gates, options, check);
    if (check.failed()) return check.error();
    const int64_t time = a.time, batch = a.batch, padded = rounded_up(int(units), kPadding), units_of_c = size_of_c<Cell>(units);
    check("hs", hs, ffi::F32, {time, batch, units});
    check("gates", gates, ffi::F32, {time, batch, 4 * padded});
    check("cs", cs, ffi::F32, {time, batch, size_of_c<Cell>(padded)});
    check("dys", dys, ffi::F32, {time, batch, units});
    check("dh", dh, ffi::F32, {batch, units});
    check("dc", dc, ffi::F32, {batch, units_of_c});
    check("dzs", *dzs, ffi::F32, {time, batch, 4 * padded});
    check.optional("dpeepholes", *dpeepholes, ffi::F32, {batch, Cell::peepholes, units});
    check("dh0", *dh0, ffi::F32, {batch, units});
    check("dc0", *dc0, ffi::F32, {batch, units_of_c});
    a.hs = data<float>(hs);  // without a mask and resets ys
    a.gates = data<float>(gates), a.cs = data<float>(cs);
    a.dys = data<float>(dys), a.dh = data<float>(dh), a.dc = data<float>(dc);
    a.dzs = data<float>(*dzs), a.dpeepholes = data<float>(*dpeepholes), a.dh0 = data<float>(*dh0), a.dc0 = data<float>(*dc0);
    return launch(Call{stream, options, *workspace}, a, cell, check);
  });
}

// The stream of a call. It is null if XLA has none, for a call on a processor.
struct StreamOfCall {};

}  // namespace

template <>
struct xla::ffi::CtxDecoding<StreamOfCall> {
  using Type = cuda::Stream;
  static std::optional<Type> Decode(const XLA_FFI_Api* api, XLA_FFI_ExecutionContext* context, DiagnosticEngine&) {
    XLA_FFI_Stream_Get_Args args{};
    args.struct_size = XLA_FFI_Stream_Get_Args_STRUCT_SIZE;
    args.ctx = context;
    if (XLA_FFI_Error* error = api->XLA_FFI_Stream_Get(&args)) {
      internal::DestroyError(api, error);
      return Type(nullptr);
    }
    return static_cast<Type>(args.stream);
  }
};

XLA_FFI_REGISTER_STRUCT_ATTR_DECODING(Options, JLSTM_CELL_OPTIONS, ffi::StructMember<bool>("reverse"),
                                      ffi::StructMember<std::string_view>("kernel"), ffi::StructMember<int32_t>("blocks"),
                                      ffi::StructMember<int32_t>("threads"), ffi::StructMember<int32_t>("cluster"),
                                      ffi::StructMember<bool>("cooperative"), ffi::StructMember<int32_t>("shared_bytes"),
                                      ffi::StructMember<int32_t>("counters"), ffi::StructMember<int32_t>("rows"));

XLA_FFI_DEFINE_HANDLER_SYMBOL(JlstmGpuForward, forward,
                              ffi::Ffi::Bind()
                                  .Ctx<StreamOfCall>()
                                  .Arg<Buffer>()
                                  .Arg<Buffer>()
                                  .Arg<Buffer>()
                                  .Arg<Buffer>()
                                  .Arg<Buffer>()
                                  .Arg<Buffer>()
                                  .Arg<Buffer>()
                                  .Ret<Buffer>()
                                  .Ret<Buffer>()
                                  .Ret<Buffer>()
                                  .RemainingRets()
                                  .Attrs<Options>(),
                              {ffi::Traits::kCmdBufferCompatible});

XLA_FFI_DEFINE_HANDLER_SYMBOL(JlstmGpuBackward, backward,
                              ffi::Ffi::Bind()
                                  .Ctx<StreamOfCall>()
                                  .Arg<Buffer>()
                                  .Arg<Buffer>()
                                  .Arg<Buffer>()
                                  .Arg<Buffer>()
                                  .Arg<Buffer>()
                                  .Arg<Buffer>()
                                  .Arg<Buffer>()
                                  .Arg<Buffer>()
                                  .Arg<Buffer>()
                                  .Arg<Buffer>()
                                  .Arg<Buffer>()
                                  .Ret<Buffer>()
                                  .Ret<Buffer>()
                                  .Ret<Buffer>()
                                  .Ret<Buffer>()
                                  .Ret<Buffer>()
                                  .Attrs<Options>(),
                              {ffi::Traits::kCmdBufferCompatible});
