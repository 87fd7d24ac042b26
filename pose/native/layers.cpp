// A deployed network's layers on a CPU, run one after the other in one call, without gradients.
//
// It knows nothing of Python or torch: whoever loads it calls the functions at the end.
//
// Images are float32, (H, W, C), between layers in 8 bits bytes as levels.h has them. Kernels are panels as products.h has
// them, (panels, kh kw C_in, 16), or (kh kw, C) of depthwise layers, or of bytes or bfloat16 as blocks.h and pairs.h have
// them; a bank holds the kernels of a panel one after the other, (panels, K, kh kw C_in, 16), or (K, kh kw, C), in float32 or
// bfloat16 as lanes.h has it, or in bytes, (panels, K / 4, kh kw C_in, 16, 4). Biases are filled up to (panels, 16).

#include <memory>
#include <string>

#include "make.h"
#include "peak.h"
#include "program.h"

namespace pose {
namespace {

thread_local std::string error;

// 0, or 1 where it throws: then `pose_error` says what.
template <typename Run>
int attempt(const Run& run) {
  try {
    run();
    return 0;
  } catch (const std::exception& thrown) {
    error = thrown.what();
    return 1;
  }
}

}  // namespace
}  // namespace pose

// What Python calls: functions that answer with a number answer 0, or 1 where `pose_error` has a line.
extern "C" {
using Handle = std::shared_ptr<pose::Program>*;

const char* pose_error() { return pose::error.c_str(); }

double pose_peak(double seconds) { return pose::peak(seconds); }

// Whether bfloat16 is computed by instructions of the processor.
int pose_has_pairs() { return pose::kHasPairs; }

Handle pose_program() { return new std::shared_ptr<pose::Program>(std::make_shared<pose::Program>()); }

void pose_free(Handle program) { delete program; }

int64_t pose_layers(Handle program) { return (*program)->layers(); }

// How often three layers ran a few rows at a time since the program was made.
int64_t pose_strips(Handle program) { return (*program)->strips(); }

// Names are for what `pose_shape` and `pose_run` refuse.
int pose_add(Handle program, const char* name, const char* kind, const int64_t* numbers, int64_t number_count,
             const pose::Constant* constants, int64_t constant_count) {
  return pose::attempt([&] {
    (*program)->add(pose::make_layer(kind, {numbers, number_count, constants, constant_count}, **program), name);
  });
}

// `shortcut` may be null.
int pose_begin_block(Handle program, const char* name, Handle shortcut) {
  return pose::attempt([&] { (*program)->begin_block(shortcut ? *shortcut : nullptr, name); });
}

int pose_end_block(Handle program) {
  return pose::attempt([&] { (*program)->end_block(); });
}

// Rows, columns and channels of the answer to an image of such a shape.
int pose_shape(Handle program, const int64_t* shape, int64_t* after) {
  return pose::attempt([&] {
    const pose::Image y = (*program)->shape_after({shape[2], shape[0], shape[1], nullptr, nullptr});
    after[0] = y.rows, after[1] = y.columns, after[2] = y.channels;
  });
}

// Images (N, H, W, C) to answers, which have the shape that `pose_shape` says. `notes`, if not null, has room for seven
// numbers a layer, of one image, or for two if they are ranges: program.h has which.
int pose_run(Handle program, const float* images, int64_t count, const int64_t* shape, float* answers, int64_t threads,
             double* notes, int64_t ranges) {
  return pose::attempt([&] {
    const pose::Image x = {shape[2], shape[0], shape[1], const_cast<float*>(images), nullptr};
    pose::Image y = (*program)->shape_after(x);
    y.data = answers;
    const pose::WithThreads all(std::clamp<int64_t>(threads, 1, 1024));
    pose::Notes noted = {ranges != 0};
    (*program)->run(x, count, y, notes ? &noted : nullptr);
    if (notes) std::copy(noted.found.begin(), noted.found.end(), notes);
  });
}
}
