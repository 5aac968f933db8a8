// Some of the four gates of a cell, one bit for each.

#pragma once

namespace jlstm {

using Gates = unsigned;
constexpr Gates kAllGates = 0b1111;

constexpr bool has(Gates gates, int gate) { return gates >> gate & 1; }

}  // namespace jlstm
