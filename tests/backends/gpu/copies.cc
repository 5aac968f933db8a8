// A kernel for tests of launches. It copies arrays, with simple changes that tell them and the parts of the batch apart.

#include <cstddef>

#include "arguments.h"
#include "cells.h"

using namespace jlstm;

template <class Cell>
static float limit(const Cell&) {
  return 1e30f;
}
template <>
float limit(const LstmVariant<float>& cell) {
  return cell.cell_clip;
}

template <class Cell>
static float peephole(const Cell&, int) {
  return 0;
}
template <>
float peephole(const LstmVariant<float>& cell, int unit) {
  return cell.weights ? cell.weights[2 * cell.units + unit] : 0;  // of the gate o
}

extern "C" bool jlstm_emulate(unsigned, unsigned, unsigned, size_t, void** parameters) {
  const auto& a = *static_cast<const Arguments*>(parameters[0]);
  const auto& cell = *static_cast<const CELL<float>*>(parameters[1]);
  constexpr int padded = rounded_up(UNITS, kPadding);
  for (int i = 0; i < COUNTERS; ++i) {
    if (a.counters[i]++ != 0) return false;  // it was not cleared
  }
  for (int row = a.first_row; row < a.last_row(); ++row) {
    for (int unit = 0; unit < UNITS; ++unit) {
      const int i = row * UNITS + unit;
      if (a.h) a.h[i] = a.h0[i] + a.recurrent[unit * 4 * UNITS];
      if (a.c) a.c[i] = a.c0[i] + peephole(cell, unit) < limit(cell) ? a.c0[i] + peephole(cell, unit) : limit(cell);
      if (a.dh0) a.dh0[i] = a.dh[i] + a.h0[i];
      if (a.dc0) a.dc0[i] = a.dc[i] + a.recurrent[unit * 4 * UNITS];
      for (int p = 0; a.dpeepholes && p < 3; ++p) a.dpeepholes[(row * 3 + p) * UNITS + unit] = float(p + row);
    }
    for (int k = 0; k < a.time; ++k) {
      const int t = a.step_of(k);
      for (int unit = 0; unit < padded; ++unit) {
        const int step = t * a.batch + row, i = step * UNITS + unit, z = (step * 4 + 1) * padded + unit;
        if (a.gates && a.zs) a.gates[z] = a.zs[z] + 1;
        if (a.cs && a.zs) a.cs[step * padded + unit] = float(k);
        if (unit < UNITS && a.zs) a.ys[i] = a.counts(t, row) ? a.zs[z] + (a.starts(t, row) ? 10.f : 0.f) : -1;
        if (unit < UNITS && a.zs && a.hs) a.hs[i] = float(k + 1);
        if (a.dzs) a.dzs[z] = a.gates[z] + (a.cs ? a.cs[step * padded + unit] : 0);
        if (unit < UNITS && a.dzs) a.dzs[z] += a.dys[i] + 2 * a.hs[i];
      }
    }
  }
  return true;
}
