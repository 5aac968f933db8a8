// The cells: what happens to four pre-activations of each unit, forward and backward.
//
// A cell defines
//
//   input_gates, recurrent_gates   the pre-activations that depend on x and on h; the weights of the others must be zero
//   has_c                          whether the carry has c
//   keeps_h                        whether the new h of a unit depends on its old h other than by the recurrent kernel
//   step                           replaces pre-activations by the gates that the backward run needs and c by the new c; returns the
//                                  new h
//   differentiate                  from the gates and from dh and dc, the gradients of the new carry, computes those of the
//                                  pre-activations, and replaces dh and dc by the gradients of the old carry. With keeps_h, dh is
//                                  only what does not pass through the recurrent kernel; without, it is not used

#pragma once

#include "product.h"
#include "vector.h"

namespace jlstm {

// Columns i, f, g, o:
//
//   c' = f c + i g                        h' = o tanh(c')
//   dc' += dh' o (1 - tanh(c')²)          dz_i = dc' g i (1 - i)     dz_g = dc' i (1 - g²)
//   dc = dc' f                            dz_f = dc' c f (1 - f)     dz_o = dh' tanh(c') o (1 - o)
struct Lstm {
  static constexpr Gates input_gates = kAllGates, recurrent_gates = kAllGates;
  static constexpr bool has_c = true, keeps_h = false;

  template <class T>
  static Vector<T> step(Vector<T> (&z)[4], const Vector<T>&, Vector<T>& c) {
    z[0] = sigmoid<T>(z[0]);
    z[1] = sigmoid<T>(z[1]);
    z[2] = tanh<T>(z[2]);
    z[3] = sigmoid<T>(z[3]);
    c = z[1] * c + z[0] * z[2];
    return z[3] * tanh<T>(c);
  }

  template <class T>
  static void differentiate(const Vector<T> (&gates)[4], const Vector<T>&, const Vector<T>& c, const Vector<T>& dh, Vector<T>& dc,
                            Vector<T> (&dz)[4]) {
    const auto& [i, f, g, o] = gates;
    const Vector<T> y = tanh<T>(f * c + i * g);
    dc += dh * o * (1 - y * y);
    dz[0] = dc * g * i * (1 - i);
    dz[1] = dc * c * f * (1 - f);
    dz[2] = dc * i * (1 - g * g);
    dz[3] = dh * y * o * (1 - o);
    dc *= f;
  }
};

// The GRU whose reset gate acts after the product. Columns z, r, a, b, of which a depends on x and b on h:
//
//   g = tanh(a + r b)                     h' = z h + (1 - z) g
//   dh = dh' z                            da = dh' (1 - z) (1 - g²)  db = da r
//   dz = dh' (h - g) z (1 - z)            dr = da b r (1 - r)
//
// It stores z, r, g and b.
struct Gru {
  static constexpr Gates input_gates = 0b0111, recurrent_gates = 0b1011;
  static constexpr bool has_c = false, keeps_h = true;

  template <class T>
  static Vector<T> step(Vector<T> (&z)[4], const Vector<T>& h, Vector<T>&) {
    z[0] = sigmoid<T>(z[0]);
    z[1] = sigmoid<T>(z[1]);
    z[2] = tanh<T>(z[2] + z[1] * z[3]);
    return z[0] * h + (1 - z[0]) * z[2];
  }

  template <class T>
  static void differentiate(const Vector<T> (&gates)[4], const Vector<T>& h, const Vector<T>&, Vector<T>& dh, Vector<T>&,
                            Vector<T> (&dz)[4]) {
    const auto& [z, r, g, b] = gates;
    dz[0] = dh * (h - g) * z * (1 - z);
    dz[2] = dh * (1 - z) * (1 - g * g);
    dz[1] = dz[2] * b * r * (1 - r);
    dz[3] = dz[2] * r;
    dh *= z;
  }
};

}  // namespace jlstm
